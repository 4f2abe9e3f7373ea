"""A tensor that the file has and an observed run does without (`value.missing`): a bias that is not added, a norm that
is not taken, or taken without its weight."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import in_memory, instead
from rosetta.ops.norm import Norm
from rosetta.ops.op import Exchanged
from rosetta.ops.pointwise import Times
from rosetta.weight import Weight


def propose(fault: Fault) -> Iterator[Proposal]:
    """Each bias of the stage as nothing, each of its norms left out, or its weight as ones."""
    if not fault.settings_unknown or fault.recorded_value is None:
        return
    weights = fault.subject.model.weights
    for name in fault.names():
        if name in weights and name.endswith(".bias"):
            yield _without_values(weights[name], 0.0)
    for op in getattr(fault.node.op, "ops", (fault.node.op,)):
        weight = weights.get(_weight_of(fault, op.stem)) if isinstance(op, Norm) and op.stem else None
        if weight is not None:
            edit = Exchanged(fault.node.stage, op, Times(1.0))
            yield _proposal(weight, Repair(operations=(edit,)), "the norm is left out of what was recorded")
            yield _without_values(weight, 1.0)


def _weight_of(fault: Fault, stem: str) -> str:
    prefix = "" if fault.layer is None else f"blk.{fault.layer}."
    return f"{prefix}{stem}.weight"


def _without_values(weight: Weight, value: float) -> Proposal:
    """The stage as it is where all values of a tensor are one that does nothing."""
    nothing = instead(in_memory(weight.name, torch.full(weight.dims, value)))
    return _proposal(weight, Repair(patches={weight.name: nothing}), "takes no part in what was recorded")


def _proposal(weight: Weight, repair: Repair, said: str) -> Proposal:
    return Proposal(
        kind="value.missing",
        role="subject",
        repair=repair,
        tensor=weight.name,
        message=f"{weight.name}: {said}" if said.startswith("the") else f"{weight.name} {said}",
        recommendation=f"read {weight.entry.name} where the stage is computed",
    )
