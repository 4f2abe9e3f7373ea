"""Weights that are zero and should not be: a whole tensor or part of it (`value.zeroed`)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from rosetta.diagnose.edits import Mask
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import taken_from_other
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight
from rosetta.weight_cache import variance

KINDS = (
    FindingKind(
        "value.zeroed",
        means="Weights are zero that should not be: a whole tensor, or part of it.",
        why="A tensor that an importer did not find is filled with zeros; a table was allocated and never written; a "
        "quantiser was given dims that it does not support.",
        repair="The values are taken from the reference, and the proof says how many. Export the tensor again.",
        order=60,
    ),
)

TAKES_FROM_REFERENCE = True
SIGMAS = 3.0  # a weight this far above its rounding does not round to zero


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's values where an accused weight is zero and the other side is not."""
    said = "is zero in {where}, where the other side is not"
    yield from taken_from_other(fault, "value.zeroed", _zeros, said, "its values were never written")


def _zeros(weight: Weight, other: Weight) -> Mask:
    def lost(start: int, values: Tensor) -> Tensor:
        zero, stop = values == 0, start + len(values)
        theirs = other.values(start, stop, values.device)
        lost = zero & (theirs != 0)
        if bool(lost.any()):  # mostly there is none, and what is allowed costs more than all the rest
            lost &= theirs.square() > SIGMAS**2 * variance(weight, other, start, stop, values.device)
        # Of a row that is zero throughout, the small values are lost as well.
        empty_rows = zero.all(-1, keepdim=True) & lost.any(-1, keepdim=True)
        return lost | (empty_rows & zero)

    return lost
