"""Whether a stage is the same in two runs over the same tokens, one of which was repaired: then it is not run again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rosetta.compare.in_parts import Value
from rosetta.compare.lane import Lane, computed_or_reason
from rosetta.compare.metrics import count_nonfinite
from rosetta.compare.outcome import Outcome
from rosetta.compare.pairing import Role
from rosetta.graph import Node
from rosetta.model import Model
from rosetta.ops.op import NotComputable

if TYPE_CHECKING:
    from rosetta.compare.pair import ModelPair


@dataclass(frozen=True)
class Twin:
    """A run over the same tokens, as far as a stage that it has just come to, and what that gave."""

    pair: ModelPair
    outcome: Outcome


def outcome_of_twin(pair: ModelPair, twin: Twin, node: Node, other: Node) -> Outcome | None:
    """The outcome, where both sides make of the reference's inputs what they made in the twin: the local error is
    the same then, and only the subject's own inputs may give it another value. None where they do not."""
    found, theirs = twin.outcome, twin.pair.nodes(node.name)
    if (
        theirs is None
        or found.reasons
        or not isinstance(found.reference, Tensor)
        or not isinstance(found.subject, Tensor)
        or not equal_inputs(pair.reference, node, twin.pair.reference, theirs[0])
        or not equal_inputs(pair.reference, other, twin.pair.reference, theirs[1])
        or not reads_alike(pair.reference.model, node, twin.pair.reference.model, theirs[0])
        or not reads_alike(pair.subject.model, other, twin.pair.subject.model, theirs[1])
    ):
        return None
    if equal_inputs(pair.subject, node, twin.pair.subject, theirs[0]) and equal_inputs(
        pair.subject, other, twin.pair.subject, theirs[1]
    ):
        return found
    own_inputs = pair.has_own_inputs(node, other)
    # Then weights and config make of one input one value.
    equal = found.sums is not None and not found.sums
    if equal and not own_inputs:
        return replace(found, subject=found.reference, nonfinite=(found.nonfinite[0],) * 2)
    reasons: dict[Role, NotComputable] = {}
    values = pair.subject.values if own_inputs else pair.for_subject()
    b = computed_or_reason(pair.subject, other, values, reasons, "subject")
    if b is None:
        return None
    return replace(found, subject=b, nonfinite=(found.nonfinite[0], count_nonfinite(b)))


def equal_inputs(lane: Lane, node: Node, twin: Lane, theirs: Node) -> bool:
    """Whether a stage is computed from the same values in two runs, bit for bit."""
    pairs = zip(lane.inputs(node), twin.inputs(theirs), strict=False)
    return len(node.inputs) == len(theirs.inputs) and all(_equal(a, b) for a, b in pairs)


def _equal(a: Value | None, b: Value | None) -> bool:
    """Whether two values of a stage are there and the same, bit for bit."""
    if a is None or b is None or a is b:
        return a is not None and b is not None and isinstance(a, Tensor)
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return False
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def reads_alike(a: Model, node: Node, b: Model, other: Node) -> bool:
    """Whether two models of one side read the same weights and settings in an operation."""
    names = [*node.tensors]
    return (
        a.architecture == b.architecture
        and (node.op, node.inputs) == (other.op, other.inputs)
        and (node.layer is None or (node.layer < a.block_count) == (node.layer < b.block_count))
        and all(a.weights.get(name) == b.weights.get(name) for name in names)
        and all(a.contradiction(name) == b.contradiction(name) for name in names)
        and all(a.config.get(key) == b.config.get(key) for key in node.keys)
    )
