"""The one number that a norm is multiplied with, of which one side has a setting and the other a tensor full of it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rosetta.diagnose.edits import Scaled
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import changed
from rosetta.diagnose.setting_proposals import setting_proposal
from rosetta.ops.chain import Chain
from rosetta.ops.norm import FactorNorm
from rosetta.ops.op import Op
from rosetta.weight import Weight


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's number in place of the subject's setting, or as the value of its tensor."""
    if fault.recorded or fault.layer is None:
        return
    suspect = fault.subject
    for name, key in numbers(fault).items():
        own, other = suspect.model.weights.get(name), suspect.other.weights.get(name)
        if own is None and other is not None and key is not None:
            number, stated = _only_value(other), suspect.model.config[key]
            if number is not None and stated.value != number:
                yield setting_proposal(fault, key, stated, number)
        elif own is not None and other is None:
            wanted = 1.0 if key is None else float(suspect.other.settings_of(fault.layer)[key])
            stored = _only_value(own)
            if stored and wanted and stored != wanted:
                yield _scaled(fault, own, stored, wanted)


def numbers(fault: Fault) -> dict[str, str | None]:
    """Full names of the tensors of a stage in whose place a setting may stand -> its key; None where it is 1."""
    op: Op = fault.node.op
    parts = op.ops if isinstance(op, Chain) else (op,)
    return {
        f"blk.{fault.layer}.{part.stem}.weight": part.factor for part in parts if isinstance(part, FactorNorm)
    }


def _only_value(weight: Weight) -> float | None:
    """The value that all of a weight have; None where they have not, or it is no number."""
    values = weight.values().flatten()
    same = bool(torch.isfinite(values).all()) and bool((values == values[0]).all())
    return float(values[0]) if same else None


def _scaled(fault: Fault, weight: Weight, stored: float, wanted: float) -> Proposal:
    return Proposal(
        kind="value.scaled",
        role="subject",
        repair=changed(fault.subject.model, weight, Scaled(stored / wanted, weight.dtype)),
        tensor=weight.name,
        declared=stored,
        actual=stored / wanted,
        message=f"{weight.name} is full of {stored:g}, the reference multiplies by {wanted:g}",
        recommendation=f"fill {weight.entry.name} with {wanted:g}",
    )
