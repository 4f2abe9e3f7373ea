"""A region of a weight: the groups of values that differ from the other side's by more than some multiple of noise.

Letters: R = rows, C = columns, G = groups of a row; a vector counts as one row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta.compare.salient_channels import salient_blocks
from rosetta.compare.weights import common_group, group_ratios
from rosetta.weight import Weight, row_ranges
from rosetta.weight_cache import DecodedPair, variance
from rosetta.workers import spread


@dataclass(frozen=True, eq=False)
class Region:
    """Some groups of a weight.

    Args:
        groups: which, bool [R, G].
        size: values of a group; the last one of a row may be shorter.
        dims: of the weight.
    """

    groups: Tensor
    size: int
    dims: tuple[int, ...]

    @property
    def count(self) -> int:
        """Values in the region."""
        columns = self.dims[-1]
        short = self.groups.shape[1] * self.size - columns
        return int(self.groups.sum()) * self.size - int(self.groups[:, -1].sum()) * short

    @property
    def rows(self) -> tuple[int, int]:
        """(first, after the last) row of the weight that is in the region; of a vector, all of them."""
        if len(self.dims) < 2:
            return 0, self.dims[-1]
        rows = self.groups.any(1).nonzero()
        return int(rows.min()), int(rows.max()) + 1

    @property
    def where(self) -> str:
        """Rows and columns, counted from 0, between which the region lies."""
        columns = self.groups.any(0).nonzero()
        first = int(columns.min()) * self.size
        last = min((int(columns.max()) + 1) * self.size, self.dims[-1]) - 1
        if len(self.dims) < 2:
            return f"values {first} to {last}"
        start, stop = self.rows
        return f"rows {start} to {stop - 1}, columns {first} to {last}"

    def mask(self, start: int, values: Tensor) -> Tensor:
        """Which of the values of the rows from `start` on are in the region; see `edits.Mask`."""
        if values.dim() < 2:
            return self._wide(self.groups)[0, start : start + len(values)].to(values.device)
        return self._wide(self.groups[start : start + len(values)].to(values.device))

    def _wide(self, groups: Tensor) -> Tensor:
        return groups.repeat_interleave(self.size, dim=1)[:, : self.dims[-1]]


@dataclass(frozen=True, eq=False)
class Ratios:
    """How far each group of two copies of a weight is apart: rms error over its predicted rms, [R, G]; 0 where an
    encoder gave the group up."""

    ratios: Tensor
    size: int
    dims: tuple[int, ...]

    def beyond(self, limit: float) -> Region:
        """The groups beyond a limit."""
        return Region(self.ratios > limit, self.size, self.dims)

    def beside(self, region: Region) -> float:
        """How far all groups that are not of a region are apart, by their root mean square; 0 where there are none."""
        others = self.ratios[~region.groups & (self.ratios > 0)].double()
        return float(others.square().mean().sqrt()) if len(others) else 0.0


def ratios_of(weight: Weight, other: Weight) -> Ratios:
    """The ratios of two copies of equal dims."""
    size = common_group(weight, other)

    def part(rows: tuple[int, int]) -> Tensor:
        gap, explained = weight.values(*rows) - other.values(*rows), variance(weight, other, *rows)
        return group_ratios(gap, explained, size)

    if len(weight.dims) < 2:
        return Ratios(part((0, weight.count)), size, weight.dims)
    ratios = torch.cat(spread(part, row_ranges(weight)))
    salient = salient_blocks(weight, other, ratios, size, DecodedPair())
    if salient is not None:
        ratios = ratios.masked_fill(salient.blocks(ratios), 0.0)
    return Ratios(ratios, size, weight.dims)
