"""Weights that are zero and should not be: a whole tensor or part of it (`value.zeroed`)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import of_weights, taking

SIGMAS = 3.0  # a weight this far above its rounding does not round to zero


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's values where an accused weight is zero and the other side is not."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        found = (
            taking(suspect, weight, other, _zeros)
            if other is not None and other.dims == weight.dims
            else None
        )
        if found is None:
            continue
        patches, taken, count = found
        yield Proposal(
            kind="value.zeroed",
            role=suspect.role,
            repair=Repair(patches=patches),
            tensor=weight.name,
            message=f"{weight.name} is zero in {of_weights(taken, count)}, where the other side is not",
            recommendation=f"export {weight.entry.name} again: its values were never written",
            from_reference=of_weights(taken, count),
        )


def _zeros(own: Tensor, theirs: Tensor, variance: Tensor) -> Tensor:
    return (own == 0) & (theirs.square() > SIGMAS**2 * variance)
