"""What the errors of some rows tell of columns, of neighbours and of rank: see `structure`, which asks.

Letters: R = rows, C = columns, e = difference of the coarser copy from the finer one, w = the finer copy, z = e / σ,
u = w / σ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.compare.columns import ColumnSums, amounts_of_columns, factors_of_columns, group_of_columns
from rosetta.compare.sample_loops import SampleLoops
from rosetta.compare.sampled_rows import Rows
from rosetta.compare.spectrum import (
    beyond_noise,
    largest_singular_value,
    rank_limit,
    with_errors_of_their_own,
)
from rosetta.compare.trait import (
    COARSE,
    COARSER,
    CODEBOOKS,
    LEAST,
    TABLES,
    Trait,
)
from rosetta.weight import Weight, row_ranges
from rosetta.weight_cache import DecodedPair
from rosetta.workers import aside, spread

# Of a matrix, what its columns and its rank are judged by: all of a small one. Of a large one its columns by so many
# rows, half as many where they are long; its rank by so many rows and columns: a matrix of low rank is spread over all
# of it, and shows in a part of that size.
SAMPLED, SIDE = 1 << 20, 512
PIECE = 1 << 18  # values that are looked at together
# Of neighbours in a run sorted by size, how many are equal: of 32 levels a block (Q5_0) a fifth, of 64 (Q6_K) a tenth,
# of BF16's own 2 %. Of equal weights, how many an encoder gives equal codes: all, as it rounds each by itself.
RUN, LEVELS, ALIKE = 16, 0.08, 0.995
EQUAL = 0.05  # of the values: what is equal on both sides is no sample of errors (a region taken by a repair)
# GPTQ (Frantar et al. 2022) moves each weight by the errors of those before it: no nearest code is what counts, but
# what the inputs make of all errors together. These schemes' errors are larger than their steps say, by 1.5 to 3 times
# as measured, and hang together between columns; within a group of neighbours they still have neither a common sign nor
# anything of the weights in them: root mean square over all groups, of what chance has, 0.91 to 1.13.
COMPENSATING = ("GPTQ:", "CT:INT")
NEIGHBOURS, NEIGHBOURS_ALIKE = 32, 1.5


def is_coarser(left: Weight, right: Weight) -> bool:
    """Whether the left copy is the coarser one, by the bytes that it takes and the bits of its mantissa."""
    mantissa = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
    sizes = [(mantissa.get(w.dtype, 0), w.entry.file_bytes / max(1, w.count)) for w in (left, right)]
    return sizes[0] <= sizes[1]


def sampled_rows(weight: Weight) -> Tensor | None:
    """The rows that these tests look at, from all over a matrix, int64 [n]; None of a vector or of several matrices."""
    if len(weight.dims) != 2:
        return None
    total = weight.dims[0]
    return _spread_out(total, total if weight.count <= SAMPLED else SIDE)


def _spread_out(total: int, count: int) -> Tensor:
    """So many of `total` places, evenly spread; all where there are fewer."""
    return torch.linspace(0, total - 1, min(total, count), dtype=torch.float64).round().long()


class SampleTests:
    """What columns have, and the rank, by some of the rows: each error in units of its σ, so that no row, however
    large, speaks for all.

    Args:
        left, right: the copies, matrices.
        kept: has the sample that was taken when they were compared.
        loops: compiled ones, for what they do.
    """

    def __init__(
        self, left: Weight, right: Weight, kept: DecodedPair, loops: SampleLoops | None = None
    ) -> None:
        assert kept.sample is not None
        self.left, self.sample, self._loops = left, kept.sample, loops
        self.coarse, self.fine = (left, right) if is_coarser(left, right) else (right, left)
        self._column_sums: Callable[[], ColumnSums] = self._sums_of_columns
        self._rank: Callable[[], list[Trait]] = self._of_rank

    def start(self) -> None:
        """Begin with what is certain to be asked of most copies, beside what is done meanwhile."""
        if not self._compensating:
            self._column_sums = aside(self._sums_of_columns)
            if self._has_rank:
                self._rank = aside(self._of_rank)

    def traits(self, weighed: bool, distance: float, given_up: Tensor | None = None) -> list[Trait]:
        """What is found.

        Args:
            weighed: whether the encoder weighed some columns' errors more than others'.
            distance: D = Σ e² / Σ w².
            given_up: columns of blocks that were fitted to a salient channel, bool [C]: their errors are what is left
                of the weights, which have ranks of their own.
        """
        sums = self._column_sums()
        found = factors_of_columns(sums, lambda: self._rows_of_columns, self.fine, self.coarse, weighed)
        if not weighed:
            found += amounts_of_columns(sums, COARSER if distance > COARSE else 1.0)
        if self._compensating:
            return [*found, *_of_neighbours(self._rows_of_columns)]
        if found or not self._has_rank:
            return found
        found = self._rank()
        return found if not found or given_up is None else self._of_rank(~given_up)

    def strayed(self) -> Tensor | None:
        """By how much the squared errors of columns whose weights are smaller than the rounding exceed its variance,
        float32 [C], 1 where they do not; None where none does.

        Such a weight has whatever level of its block lies nearest to nought, half a step away where none is nought, and
        in a codebook the one that its neighbours' best entry has.
        """
        if self._compensating:
            return None
        sums = self._column_sums()
        smaller = sums.weights < sums.rows
        if not bool(smaller.any()):
            return None
        return torch.where(smaller, sums.all_errors / sums.rows, 1.0).clamp(min=1.0)

    def follow_levels(self) -> bool:
        """Whether the finer copy has few values a block, and the coarser one is a function of them: it was encoded from
        what is quantised already, and its errors are not independent of the weights."""
        rows = LEAST * len(row_ranges(self.coarse))
        w, c = (self.sample.of(weight)[:: max(1, len(self.sample.rows) // rows)] for weight in self._pair)
        columns = w.shape[1] // RUN * RUN
        w, c = (x[:, :columns].reshape(-1, RUN) for x in (w, c))
        w, order = w.sort(dim=1)
        c = c.gather(1, order)
        some = (w[:, 1:] != 0) & (w[:, :-1] != 0)  # zeros may be pruned weights
        same = some & (w[:, 1:] == w[:, :-1])
        equal, alike = int(same.sum()), int((same & (c[:, 1:] == c[:, :-1])).sum())
        # These encode eight weights at once, and equal ones otherwise.
        by_vectors = self.coarse.dtype in CODEBOOKS
        return equal > LEVELS * int(some.sum()) and (by_vectors or alike >= ALIKE * equal)

    @property
    def _pair(self) -> tuple[Weight, Weight]:
        """The finer copy, and the coarser one."""
        return self.fine, self.coarse

    @property
    def _group(self) -> int:
        """Weights of a block, of the smaller ones."""
        return min(blocks.group_of(weight.dtype) for weight in self._pair)

    @property
    def _compensating(self) -> bool:
        return self.coarse.dtype.startswith(COMPENSATING)

    @property
    def _has_rank(self) -> bool:
        """Whether the errors of clean copies have none."""
        return self.coarse.name not in TABLES and not any(weight.without_rank for weight in self._pair)

    @property
    def _rows_of_columns(self) -> Rows:
        """The rows that columns are judged by."""
        found = Rows(self.sample.of(self.fine), self.sample.of(self.coarse), self.sample.variance)
        if self.coarse.count <= SAMPLED:
            return found
        rows = _spread_out(len(found.fine), max(SIDE // 2, SAMPLED // self.coarse.dims[1]))
        return found if len(rows) == len(found.fine) else found.only(rows)

    def _sums_of_columns(self) -> ColumnSums:
        pieces = self._rows_of_columns.pieces(max(1, PIECE // self.coarse.dims[1]))
        summed = partial(ColumnSums.of, group=group_of_columns(self.coarse), loops=self._loops)
        return ColumnSums.joined(spread(summed, pieces))

    def _of_rank(self, columns: Tensor | None = None) -> list[Trait]:
        """Whether the errors of a part of the matrix, [rows, columns] from all over it, have a part of low rank.

        Args:
            columns: to look at, whole blocks, bool [C]; None: all.
        """
        rows = Rows(self.sample.of(self.fine), self.sample.of(self.coarse), self.sample.variance)
        if columns is not None:
            rows = rows.only_columns(columns)
        if self.coarse.count > SAMPLED:
            rows = rows.in_columns(_runs(rows.fine.shape[1]))
        found = self._rank_of(rows)
        if not found:
            return found
        unlike = rows.unlike()
        own = with_errors_of_their_own(*unlike.in_sigmas(), self._group).nonzero().flatten()
        return self._rank_of(unlike.only(own)) if len(own) < len(rows.fine) else found

    def _rank_of(self, rows: Rows) -> list[Trait]:
        z, u, inverse = rows.in_sigmas()
        if z.numel() - int(z.count_nonzero()) > EQUAL * z.numel():
            return []
        noise = beyond_noise(z, u, inverse, self._group, self._loops)
        if min(noise.shape) < LEAST:
            return []
        largest, limit = largest_singular_value(noise, self._loops), rank_limit(*noise.shape)
        return [Trait("rank", largest, limit)] if largest > limit else []


def _runs(columns: int) -> list[slice]:
    """Whole superblocks of columns from all over a matrix; all columns where it has no more than is needed."""
    if columns < 2 * SIDE:
        return [slice(None)]
    runs = columns // 256
    wanted = torch.linspace(0, runs - 1, SIDE // 256, dtype=torch.float64).round().long().tolist()
    return [slice(run * 256, (run + 1) * 256) for run in wanted]


def _of_neighbours(rows: Rows) -> list[Trait]:
    """What errors have in common with each other and with the weights in groups of neighbours, both in units of σ."""
    e, w, _ = rows.in_sigmas()
    columns = e.shape[1] // NEIGHBOURS * NEIGHBOURS
    e, w = (x[:, :columns].reshape(-1, NEIGHBOURS) for x in (e, w))
    size = e.norm(dim=1)
    used = (size > 0) & (w.norm(dim=1) > 0)
    if int(used.sum()) < LEAST:
        return []
    e, w, size = e[used], w[used], size[used]
    signs = float((e.sum(1) / size).square().mean().sqrt())
    likeness = float(((e * w).sum(1) * NEIGHBOURS**0.5 / (size * w.norm(dim=1))).square().mean().sqrt())
    found = [Trait("group_offsets", signs, NEIGHBOURS_ALIKE)] if signs > NEIGHBOURS_ALIKE else []
    if likeness > NEIGHBOURS_ALIKE:
        found.append(Trait("group_factors", likeness, NEIGHBOURS_ALIKE))
    return found
