"""A region of a weight that differs, by no rule (`value.corrupted`)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from rosetta import blocks
from rosetta.compare.weights import block_cut, by_group
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import of_weights, row_blocks_of, taking
from rosetta.weight import Weight

TAKES_FROM_REFERENCE = True


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's values in the blocks that differ by more than their dtypes explain."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is not None and other.dims == weight.dims:
            yield from _taking_blocks(suspect, weight, other)


def _taking_blocks(suspect: Suspect, weight: Weight, other: Weight) -> Iterator[Proposal]:
    group = max(blocks.group_of(w.dtype) for w in (weight, other))
    # The cut of a plain encoder first, then that of any; of one quantised dtype any difference may be the fault.
    for strictness in (block_cut(weight, other, 0.0), block_cut(weight, other, math.inf), 0.0):

        def mask(own: Tensor, theirs: Tensor, variance: Tensor, strictness: float = strictness) -> Tensor:
            return differing_blocks(own, theirs, variance, group, strictness)

        found = taking(suspect, weight, other, mask)
        if found is None:
            continue
        patches, taken, count = found
        where = _range(weight, other, mask)
        yield Proposal(
            kind="value.corrupted",
            role=suspect.role,
            repair=Repair(patches=patches),
            tensor=weight.name,
            message=f"{weight.name} differs in {of_weights(taken, count)}, {where}",
            recommendation=f"copy or export {weight.entry.name} again: {where} are damaged",
            from_reference=of_weights(taken, count),
        )


def differing_blocks(own: Tensor, theirs: Tensor, variance: Tensor, group: int, limit: float) -> Tensor:
    """Bool [rows, C] (or [R]): the groups whose rms error is more than `limit` times the predicted one."""
    matrix = [x if x.dim() == 2 else x[None] for x in (own, theirs, variance)]
    error, allowed = by_group((matrix[0] - matrix[1]).square(), group), by_group(matrix[2], group)
    beyond = ~(error <= limit**2 * allowed)  # NaN is beyond anything
    wide = beyond.repeat_interleave(group, dim=1)[:, : matrix[0].shape[1]]
    return wide.view(own.shape)


def _range(weight: Weight, other: Weight, mask: object) -> str:
    """Rows and columns, counted from 0, between which the region lies."""
    assert callable(mask)
    first_row, last_row, first, last = weight.dims[0], -1, weight.dims[-1], -1
    start = 0
    for own, theirs in row_blocks_of(weight, other):
        stop = start + len(own)
        variance = weight.sigma(start, stop).square() + other.sigma(start, stop).square()
        hit = mask(own, theirs, variance).nonzero()
        if len(hit):
            first_row, last_row = min(first_row, start + int(hit[:, 0].min())), start + int(hit[:, 0].max())
            first, last = min(first, int(hit[:, -1].min())), max(last, int(hit[:, -1].max()))
        start = stop
    if len(weight.dims) < 2:
        return f"values {first_row} to {last_row}"
    return f"rows {first_row} to {last_row}, columns {first} to {last}"
