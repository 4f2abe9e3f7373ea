"""Sinks that take no share of the softmax (`value.missing`), read off the recorded scores, whose rows sum to one."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.ops.attention import Scores
from rosetta.ops.edit import OpEdit

NONE_LEFT = 1e-4  # of a row: what a sink would have taken


def propose(fault: Fault) -> Iterator[Proposal]:
    """No sinks, where the recorded scores leave them nothing and ours do."""
    op, truth = fault.node.op, fault.recorded_value
    if not isinstance(op, Scores) or op.sinks is None or truth is None or fault.layer is None:
        return
    if float((1 - truth.sum(-1)).abs().max()) > NONE_LEFT:
        return
    name = f"blk.{fault.layer}.{op.sinks}.weight"
    stored = fault.subject.model.weights.get(name)
    if stored is None:
        return
    yield Proposal(
        kind="value.missing",
        role="subject",
        repair=Repair(operations=(OpEdit(Scores, (("sinks", None),)),)),
        tensor=name,
        message=f"{name} takes no share of the recorded scores",
        recommendation=f"read {stored.entry.name} where the scores are computed",
    )
