"""Weights that are zero and should not be: a whole tensor or part of it (`value.zeroed`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from rosetta.compare.trait import LEAST
from rosetta.diagnose.edits import Mask
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import taken_from_other
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight, row_ranges
from rosetta.weight_cache import variance
from rosetta.workers import spread

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
SMALL = 0.5  # mean size of what is zero to that of the rest: of values at random both are one, of the smaller half 0.28
SIGMAS = 3.0  # a weight this far above its rounding does not round to zero


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's values where an accused weight is zero and the other side is not."""
    said = "is zero in {where}, where the other side is not"
    for proposal in taken_from_other(fault, "value.zeroed", _zeros, said, "its values were never written"):
        suspect = fault.subject if proposal.role == "subject" else fault.reference
        weight = suspect.model.weights[proposal.tensor or ""]
        other = suspect.counterpart(weight)
        yield proposal if other is None or not _are_the_smallest(weight, other) else _pruned(proposal, weight)


def _pruned(proposal: Proposal, weight: Weight) -> Proposal:
    return replace(
        proposal,
        message=f"{proposal.message}, and small: it was pruned, or small values were cut off",
        recommendation=f"export {weight.entry.name} from the checkpoint before it was pruned, or rounded to a dtype of "
        "less range, or compare with that which was",
    )


def _are_the_smallest(weight: Weight, other: Weight) -> bool:
    """Whether what is zero, among values that are not, is small on the other side: no loss picks by size."""

    def sums(rows: tuple[int, int]) -> Tensor:
        zero, size = weight.values(*rows) == 0, other.values(*rows).double().abs()
        mixed = zero & ~zero.all(-1, keepdim=True)
        return torch.stack([(size * mixed).sum(), mixed.sum(), (size * ~zero).sum(), (~zero).sum()])

    small, zeros, rest, others = torch.stack(spread(sums, row_ranges(weight))).sum(0).tolist()
    return bool(zeros >= LEAST and others >= LEAST and small / zeros < SMALL * rest / others)


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
