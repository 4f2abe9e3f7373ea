"""NaN or Inf among the weights (`value.nonfinite`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import of_weights, taking


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's values where an accused weight is not finite."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        found = (
            taking(suspect, weight, other, _nonfinite)
            if other is not None and other.dims == weight.dims
            else None
        )
        if found is None:
            continue
        patches, taken, count = found
        yield Proposal(
            kind="value.nonfinite",
            role=suspect.role,
            repair=Repair(patches=patches),
            tensor=weight.name,
            message=f"{weight.name} is NaN or Inf in {of_weights(taken, count)}",
            recommendation=f"export {weight.entry.name} again: a scale or a conversion overflowed",
            from_reference=of_weights(taken, count),
        )


def _nonfinite(own: Tensor, theirs: Tensor, variance: Tensor) -> Tensor:
    return ~torch.isfinite(own)
