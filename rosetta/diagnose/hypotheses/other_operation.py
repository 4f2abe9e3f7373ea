"""What a runtime does otherwise than the architecture, where no setting says how: its routing of experts, the order,
the sense and the start of its rotation, which of two rows is the gate. Imitated by computing the operation so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.setting_proposals import setting_proposal
from rosetta.graph import Node
from rosetta.ops.clamped_gate import ClampedGate
from rosetta.ops.edit import Exchanged, OpEdit
from rosetta.ops.experts import (
    LARGEST_GATING,
    SOFTMAX,
    SOFTMAX_OF_CHOSEN,
    ExpertLinear,
    ExpertSum,
    Router,
)
from rosetta.ops.norm import Kind, Norm
from rosetta.ops.op import Op
from rosetta.ops.pointwise import ACTIVATIONS, GATES, Activation, Gate, Times
from rosetta.ops.rotary import INTERLEAVED, SPLIT_HALF, Rotary
from rosetta.ops.xielu import Xielu
from rosetta.runtimes.observed.experts_order import OF_EXPERTS

POSITIONS = (1, 2, -1)
"""Where runtimes begin to count: at 1, or at 2 where padding has a position of its own (RoBERTa), or behind by one."""
ONE_WEIGHT = {SOFTMAX, SOFTMAX_OF_CHOSEN}
"""The softmax of the chosen scores is the share of the chosen in the softmax of all: which of both is normalised."""
EVEN = 1e-3  # of a factor that all weights have alike, how far they stray from it
DIGITS = 4  # significant ones that a factor is published with


def propose(fault: Fault) -> Iterator[Proposal]:
    """Each way in which an operation may be computed otherwise than the architecture has it."""
    if not fault.settings_unknown:
        return
    for node in fault.stages:
        for op in node.op.links:
            yield from _of_operation(fault, node, op)


def _of_operation(fault: Fault, node: Node, op: Op) -> Iterator[Proposal]:
    if isinstance(op, Norm) and op.stem is None:  # with a weight it is the weight that is missing
        left_out = Repair(operations=(Exchanged(node.stage, op, Times(1.0), node.layer),))
        yield stated_otherwise("config.norm_type", f"{node.stage}.norm", op.kind or "norm", "none", left_out)
    if isinstance(op, Router):
        yield from _of_router(fault, op)
    elif isinstance(op, Rotary):
        yield from _of_rotary(op)
    elif isinstance(op, Norm) and op.kind is not None:
        other: Kind = "layer" if op.kind == "rms" else "rms"
        edit = Exchanged(node.stage, op, replace(op, kind=other))
        yield stated_otherwise("config.norm_type", "norm_type", op.kind, other, Repair(operations=(edit,)))
    elif isinstance(op, Gate):
        for function in GATES:
            if function != op.function:
                repair = Repair(operations=(Exchanged(node.stage, op, replace(op, function=function)),))
                yield stated_otherwise(
                    "config.activation", f"{node.stage}.gate", op.function, function, repair
                )
    elif isinstance(op, ClampedGate):
        yield from _of_plain_activation(fault, node, op, "clamped silu")
    elif isinstance(op, Xielu):
        yield from _of_plain_activation(fault, node, op, "xielu")
    elif isinstance(op, ExpertSum):
        yield _weighed_elsewhere(op)
    elif type(op) is Activation and len(node.inputs) > 1:
        repair = Repair(operations=(Exchanged(node.stage, op, replace(op, exchanged=True)),))
        yield stated_otherwise("config.activation", "activation_of", "gate", "up", repair)


def _of_plain_activation(fault: Fault, node: Node, op: Op, said: str) -> Iterator[Proposal]:
    """Each activation without numbers of its own in place of one that has some, in every layer."""
    own = {
        one.op for one in fault.subject.model.graph if one.stage == node.stage and type(one.op) is type(op)
    }
    plain = tuple(Exchanged(node.stage, one, Activation()) for one in own)
    for function in ACTIVATIONS:
        repair = Repair(overrides={"activation": function}, operations=plain)
        yield stated_otherwise("config.activation", "activation", said, function, repair)


def _weighed_elsewhere(op: ExpertSum) -> Proposal:
    """That the router's weights go into what the experts make, where they are of their inputs, or the reverse."""
    own, other = ("outputs", "inputs") if op.weighed else ("inputs", "outputs")
    edits = (
        OpEdit(ExpertLinear, (("weighed", op.weighed),)),
        OpEdit(ExpertSum, (("weighed", not op.weighed),)),
    )
    return stated_otherwise(
        "config.expert_weights", "expert_weights_of", own, other, Repair(operations=edits)
    )


def _of_router(fault: Fault, op: Router) -> Iterator[Proposal]:
    stated = fault.subject.model.config[op.used]
    for used in _used(fault, op, stated.value):
        if used != stated.value and used > 0:
            yield setting_proposal(fault, op.used, stated, used)
    if not isinstance(op.gating, str):
        for gating in range(SOFTMAX, LARGEST_GATING + 1):
            if gating != op.gating and {gating, op.gating} != ONE_WEIGHT:
                yield computed_otherwise(
                    op, "config.expert_gating", "expert_gating_func", op.gating, gating, gating=gating
                )
    if not isinstance(op.normalised, str):
        now = not op.normalised
        yield computed_otherwise(
            op, "config.expert_weights", "expert_weights_norm", not now, now, normalised=now
        )
    if op.selection_bias is not None:
        yield computed_otherwise(
            op,
            "config.expert_weights",
            "expert_weights_biased",
            op.biased,
            not op.biased,
            biased=not op.biased,
        )
    if (factor := _factor(fault)) is not None:
        settings = fault.subject.model.settings_of(fault.layer)
        own = float(settings[op.scale] if isinstance(op.scale, str) else op.scale or 1.0)
        scale = float(f"{own * factor:.{DIGITS}g}")
        yield computed_otherwise(op, "config.expert_weights", "expert_weights_scale", own, scale, scale=scale)


def _used(fault: Fault, op: Router, stated: int) -> tuple[int, ...]:
    """How many experts were chosen: as many as count in the recorded routing, or as many as what they compute is of;
    where neither was recorded, perhaps one more or less."""
    truth = fault.recorded_value
    if truth is not None and op in fault.node.op.links:  # [T, E], zero where an expert is not chosen
        return (int((truth != 0).sum(-1).max()),)
    if truth is not None and fault.node.stage in OF_EXPERTS and truth.dim() == 3:  # [T, k, R]
        return (truth.shape[1],)
    return (stated + 1, stated - 1)


def _factor(fault: Fault) -> float | None:
    """What all of the recorded weights are times our own; None where that is no one number, or 1."""
    own, truth = fault.computed(), fault.recorded_value
    if own is None or truth is None or own.shape != truth.shape or not bool(((own > 0) == (truth > 0)).all()):
        return None
    ratios = truth[own > 0].double() / own[own > 0].double()
    factor = float(ratios.median()) if len(ratios) else 1.0
    even = bool(((ratios / factor - 1).abs() < EVEN).all()) if factor else False
    return factor if even and abs(factor - 1) > EVEN else None


def _of_rotary(op: Rotary) -> Iterator[Proposal]:
    names = {INTERLEAVED: "interleaved", SPLIT_HALF: "split-half"}
    other = SPLIT_HALF if op.order == INTERLEAVED else INTERLEAVED
    ways: list[dict[str, Any]] = [{"order": other}, {"order": other, "angles": op.order}, {"angles": other}]
    if op.order == INTERLEAVED:
        ways += [{"regrouped": True}, {"regrouped": True, "angles": other}]
    for way in ways:
        yield computed_otherwise(op, "config.rope_type", "rope.order", names[op.order], names[other], **way)
    yield computed_otherwise(op, "config.rope_type", "rope.sense", "forwards", "backwards", backwards=True)
    for first in POSITIONS:
        yield computed_otherwise(
            op, "config.rope_scaling", "rope.first_position", op.first, first, first=first
        )


def computed_otherwise(op: Op, kind: str, key: str, own: Any, other: Any, **fields: Any) -> Proposal:
    """That all operations of a class are computed with other fields: under a key of ours, its value here and there."""
    return stated_otherwise(
        kind, key, own, other, Repair(operations=(OpEdit(type(op), tuple(fields.items())),))
    )


def stated_otherwise(kind: str, key: str, own: Any, other: Any, repair: Repair) -> Proposal:
    """That a repair imitates what was recorded: a key, and its value here and there."""
    return Proposal(
        kind=kind,
        role="subject",
        repair=repair,
        message=f"{key} is {own}, what was recorded was computed with {other}",
        recommendation=f"compute with {key} {other}, or mend what was recorded",
        key=key,
        declared=own,
        actual=other,
    )
