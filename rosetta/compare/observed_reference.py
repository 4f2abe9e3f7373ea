"""Stages of a reference that was only observed: it has no weights, perhaps no value, and an arithmetic of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from rosetta.compare.lane import computed_or_reason, tensors
from rosetta.compare.local_error import local_error
from rosetta.compare.metrics import count_nonfinite
from rosetta.compare.outcome import Explained, Outcome
from rosetta.compare.pairing import Role
from rosetta.graph import Node
from rosetta.ops.op import NotComputable, Step

if TYPE_CHECKING:
    from rosetta.compare.pair import ModelPair


def as_observed(pair: ModelPair, node: Node) -> Outcome:
    """A stage of which no more is known than its observed value: both sides go on from that."""
    a = pair.reference.computed(node, pair.reference.values)
    bad = count_nonfinite(a)
    return Outcome(a, a, [], nonfinite=(bad, bad), unrecorded=True)


def recall(pair: ModelPair, other: Node) -> None:
    """Have the observed inputs of a stage that a repair makes of others than before: those were let go of."""
    for name in other.inputs:
        observed = pair.reference.graph.get(name)
        if name in pair.reference.values or observed is None or not pair.reference.runtime.offers(name):
            continue
        value = pair.reference.runtime.compute(observed, ())
        pair.reference.put(name, value)
        pair.subject.put(name, pair.subject.moved(value))


def keep_decoded(pair: ModelPair, node: Node) -> None:
    """Let the matrices of a stage be decoded once for all that is computed of it."""
    for name, dims in node.required.items():
        weight = pair.subject.model.weights.get(name)
        if weight is not None and len(dims) > 1:
            pair.subject.runtime.cache.kept.alone(weight)


def run_unobserved(pair: ModelPair, other: Node) -> Outcome:
    """A stage that the observed side lacks: the subject's own, from the observed stages before it."""
    reasons: dict[Role, NotComputable] = {}
    a = computed_or_reason(pair.subject, other, pair.for_subject(), reasons, "subject")
    ways = () if a is None else pair.reference.runtime.imitations(other, pair.subject.model)
    strays: Sequence[Tensor] = ()
    for way in (way for way in ways if way.certain):
        if way.strays is not None:
            strays = way.strays(tensors(pair.reference.values, other.inputs))
        a = way.compute(
            partial(pair.subject.runtime.compute, other), tensors(pair.for_subject(), other.inputs)
        )
    b = computed_or_reason(pair.subject, other, pair.subject.values, reasons, "subject")
    device = pair.reference.runtime.cache.device
    if a is not None:
        step = Step(pair.subject.model, other.layer, pair.reference.runtime.cache)
        inputs = tensors(pair.reference.values, other.inputs)
        rounding = pair.rounding({}, pair.doubt.coarser)
        pair.doubt.learn(other, step, rounding, a.to(device), inputs, pair.by_subject(other), strays)
    value = None if a is None else a.to(device)
    return Outcome(value, b, None if reasons else [], reasons, unrecorded=True)


def explained(pair: ModelPair, node: Node, other: Node, outcome: Outcome, a: Tensor | None) -> Outcome:
    """The outcome of an observed stage, judged by what its runtime legitimately rounds where that explains it."""
    if not outcome.faulty or outcome.local is None or a is None or not outcome.comparable:
        return outcome
    # A repair may have put stages before this one that the run has not come to.
    inputs, runtime = pair.subject.gathered(other, pair.for_subject()), pair.subject.runtime
    for way in pair.reference.runtime.imitations(other, pair.subject.model):
        # What was seen of one stage holds for those that show it no more: a norm that is rounded where it is used.
        if not way.fits(a, inputs) and way.result != pair.doubt.coarser:
            continue
        computing = runtime.with_model(way.model(runtime.model, other))
        edited = computing.model.graph.get(other.name) or other
        try:
            imitated = way.nearest(a, partial(computing.compute, edited), inputs)
        except NotComputable:
            continue
        sums = pair.local(node, a, imitated, {}, way.result, way.strays)
        if sums is not None and local_error(sums).worst_ratio <= 1:
            pair.doubt.coarser = pair.doubt.coarser or way.coarser
            return replace(outcome, sums=sums, explained=Explained(way.words, outcome.local))
    return outcome
