"""What the errors of some rows tell of columns, of neighbours and of rank: see `structure`, which asks.

Letters: R = rows, C = columns, e = difference of the coarser copy from the finer one, w = the finer copy, z = e / σ,
u = w / σ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.blocks.fields import SQRT12
from rosetta.compare.sample_loops import SampleLoops
from rosetta.compare.spectrum import beyond_noise, largest_singular_value, rank_limit
from rosetta.compare.trait import (
    COARSE,
    COARSER,
    CODEBOOKS,
    DEVIATIONS,
    FITTED_DEVIATIONS,
    LEAST,
    ROW_DEVIATIONS,
    Trait,
    largest_shrinkage,
)
from rosetta.dtypes import FLOATS, of_scheme
from rosetta.weight import Weight, row_ranges
from rosetta.weight_cache import DecodedPair
from rosetta.workers import aside, spread

# Of a matrix, what its columns and its rank are judged by: all of a small one. Of a large one its columns by so many
# rows, half as many where they are long; its rank by so many rows and columns: a matrix of low rank is spread over all
# of it, and shows in a part of that size.
SAMPLED, SIDE = 1 << 20, 512
PIECE = 1 << 18  # values that are looked at together
# By how much κ differs from column to column of a clean copy, of codes that are taken for one weight and for several
# (measured: 0.75, where importance was too mild for blocks to tell; 0.8). More by OF_LOUD where a column makes up its
# block, of what it has beyond LOUD times an even share (0.98): the search for a scale makes its own error small.
SHRINKAGE_APART, OF_CODEBOOKS, OF_LOUD, LOUD = 0.9, 1.0, 1.2, 2.0
# Where errors were weighed, of the largest κ, in units of each column's own D (measured: 1.2, Q2_K).
OF_LARGEST = 1.5
OF_SCALES = (
    2.0**-11
)  # relative: a float16 scale is off by no more, and of a loud column by the same in many blocks
LOOKED_AT = 0.75  # of the limits, from where on columns are told row by row: sizes say up to a fifth less
# Of all columns' squared errors, what a factor of each explains at least of a table: many of its rows are nearly equal.
COHERENT = 0.2
# Mean of a column's errors in units of their rms.
COLUMN_MEAN = 0.7
# Of neighbours in a run sorted by size, how many are equal: of 32 levels a block (Q5_0) a fifth, of 64 (Q6_K) a tenth,
# of BF16's own 2 %. Of equal weights, how many an encoder gives equal codes: all, as it rounds each by itself.
RUN, LEVELS, ALIKE = 16, 0.08, 0.995
# Rows of a table may be equal, of tokens that no text had, and so are their errors: rank says nothing there.
TABLES = ("token_embd.weight", "output.weight", "position_embd.weight")
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
        self._column_sums: Callable[[], _ColumnSums] = self._sums_of_columns
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
        found = self._factors_of_columns(sums, weighed)
        if not weighed:
            found += _amounts_of_columns(sums, COARSER if distance > COARSE else 1.0)
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
        same = (w[:, 1:] == w[:, :-1]) & (w[:, 1:] != 0)  # zeros may be pruned weights
        equal, alike = int(same.sum()), int((same & (c[:, 1:] == c[:, :-1])).sum())
        # These encode eight weights at once, and equal ones otherwise.
        by_vectors = self.coarse.dtype in CODEBOOKS
        return equal > LEVELS * same.numel() and (by_vectors or alike >= ALIKE * equal)

    @property
    def _pair(self) -> tuple[Weight, Weight]:
        """The finer copy, and the coarser one."""
        return self.fine, self.coarse

    @property
    def _compensating(self) -> bool:
        return self.coarse.dtype.startswith(COMPENSATING)

    @property
    def _group(self) -> int:
        """Columns that share a scale; 1 where these fill no rows."""
        group = blocks.group_of(self.coarse.dtype)
        return 1 if self.coarse.dims[1] % group else group

    @property
    def _independent(self) -> bool:
        """Whether the errors of a clean copy have nothing to do with each other: a scheme may round scales after codes
        were made, and what was fitted to the other copy leaves errors that hang together."""
        return not any(of_scheme(weight.dtype) or weight.fitted for weight in self._pair)

    def _apart(self, weighed: bool, sums: _ColumnSums) -> tuple[Tensor, Tensor]:
        """By how much Σ z·u of columns may differ as κ does, by D of their blocks and by their own, float64 [C] each.

        Where errors were weighed κ lies between nought, of what matters, and the largest one, of what does not: no
        farther than half of that from their mean in units of the block's D. What matters has small errors, so that one
        column may be far off by its own D; all of them hold both.
        """
        fitted, error = sums.fitted.double(), sums.error.double()
        of_blocks = fitted.view(-1, self._group)
        loud = (of_blocks - LOUD * of_blocks.mean(1, keepdim=True)).clamp(min=0).flatten()
        if weighed:
            quantised = (weight.dtype for weight in self._pair if weight.dtype not in FLOATS)
            largest = max(map(largest_shrinkage, quantised), default=SHRINKAGE_APART)
            by_block, by_own = largest / 2 * fitted, OF_LARGEST * largest * error + largest / 2 * loud
        else:
            apart = OF_CODEBOOKS if self.coarse.dtype in CODEBOOKS else SHRINKAGE_APART
            by_block, by_own = apart * fitted + OF_LOUD * loud, apart * error + OF_LOUD * loud
        return by_block, by_own

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

    def _sums_of_columns(self) -> _ColumnSums:
        pieces = self._rows_of_columns.pieces(max(1, PIECE // self.coarse.dims[1]))
        summed = partial(_ColumnSums.of, group=self._group, loops=self._loops)
        return _ColumnSums.joined(spread(summed, pieces))

    def _factors_of_columns(self, sums: _ColumnSums, weighed: bool) -> list[Trait]:
        """Factors of columns: how far Σ z·u of each strays from what the encoder's shrinkage makes of its error.

        The sizes say how far it may if errors have nothing to do with those of weights; what strays farther is looked
        at again, row by row.
        """
        judged = ((sums.wide >= LEAST) & (sums.error > 0)).nonzero().flatten()
        if len(judged) < LEAST:
            return []
        size, error, product, wide, fitted = (
            x[judged].double() for x in (sums.size, sums.error, sums.product, sums.wide, sums.fitted)
        )
        deviation = (size * error / wide).sqrt()
        # By how many of these, squared, κ and the rounding of scales make columns differ.
        by_block, by_own = (
            (apart[judged].square() + (OF_SCALES * size).square()) / deviation.square()
            for apart in self._apart(weighed, sums)
        )
        # −κ of all, by the inverse of what chance and these differences make of each column's.
        precision = (fitted / deviation).square() / (1 + by_block)
        common = float((precision * product / fitted).sum() / precision.sum())
        strays = (product - common * fitted) / deviation
        of_one = ROW_DEVIATIONS * (1 + by_block).sqrt()
        differing = min(float(by_block.mean()), float(by_own.mean()))
        of_all = limit_of_all(float(wide.min()) - 1, len(judged), differing)
        if not self._independent:
            of_all = max(of_all, FITTED_DEVIATIONS)
        farthest, all_of_them = float((strays.abs() / of_one).max()), float(strays.square().mean().sqrt())
        if farthest <= LOOKED_AT and all_of_them <= LOOKED_AT * of_all:
            return []
        if self.coarse.name in TABLES and float((strays.square() / wide).mean()) <= COHERENT:
            return []
        strays = _strays(self._rows_of_columns.unlike(), judged, common, self._group)
        farthest, all_of_them = int((strays.abs() / of_one).argmax()), float(strays.square().mean().sqrt())
        if abs(float(strays[farthest])) > float(of_one[farthest]):
            return [Trait("column_factors", abs(float(strays[farthest])), float(of_one[farthest]))]
        return [Trait("column_factors", all_of_them, of_all)] if all_of_them > of_all else []

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
        if not found or (unlike := rows.unlike()) is rows:
            return found
        return self._rank_of(unlike)

    def _rank_of(self, rows: Rows) -> list[Trait]:
        z, u, inverse = rows.in_sigmas()
        if z.numel() - int(z.count_nonzero()) > EQUAL * z.numel():
            return []
        group = min(blocks.group_of(weight.dtype) for weight in self._pair)
        noise = beyond_noise(z, u, inverse, group, self._loops)
        if min(noise.shape) < LEAST:
            return []
        largest, limit = largest_singular_value(noise, self._loops), rank_limit(*noise.shape)
        return [Trait("rank", largest, limit)] if largest > limit else []


@dataclass(frozen=True)
class Rows:
    """Some rows of both copies, and the variance of their difference, float32 [rows, C]."""

    fine: Tensor
    coarse: Tensor
    variance: Tensor

    def in_sigmas(self) -> tuple[Tensor, Tensor, Tensor]:
        """z, u and 1 / σ."""
        inverse = self.variance.clamp(min=1e-30).rsqrt_()
        return (self.coarse - self.fine).mul_(inverse), self.fine * inverse, inverse

    def only(self, rows: Tensor) -> Rows:
        """Some of them."""
        wanted = rows.to(self.fine.device)
        return Rows(*(x.index_select(0, wanted) for x in (self.fine, self.coarse, self.variance)))

    def unlike(self) -> Rows:
        """Those that are no copies of others: such have equal errors, as heads that were written several times do."""
        bits = self.fine.contiguous().view(torch.int32).long()
        keys = torch.arange(1, 2 * bits.shape[1], 2, device=bits.device).pow_(3)
        sums, order = (bits * keys).sum(1).sort(stable=True)  # modulo 2⁶⁴: equal where all bits are
        first = order[torch.cat([sums.new_ones(1, dtype=torch.bool), sums[1:] != sums[:-1]])]
        return self if len(first) == len(bits) else self.only(first)

    def in_columns(self, runs: Sequence[slice]) -> Rows:
        """Some of their columns."""
        if runs == [slice(None)]:
            return self
        of_each = (self.fine, self.coarse, self.variance)
        return Rows(*(torch.cat([x[:, run] for run in runs], dim=1) for x in of_each))

    def only_columns(self, wanted: Tensor) -> Rows:
        """The columns where `wanted`, bool [C], is true."""
        wanted = wanted.to(self.fine.device)
        return Rows(*(x[:, wanted] for x in (self.fine, self.coarse, self.variance)))

    def pieces(self, count: int) -> list[Rows]:
        """So many of them at a time."""
        parts = (torch.split(x, count) for x in (self.fine, self.coarse, self.variance))
        return [Rows(*part) for part in zip(*parts, strict=True)]


def _runs(columns: int) -> list[slice]:
    """Whole superblocks of columns from all over a matrix; all columns where it has no more than is needed."""
    if columns < 2 * SIDE:
        return [slice(None)]
    runs = columns // 256
    wanted = torch.linspace(0, runs - 1, SIDE // 256, dtype=torch.float64).round().long().tolist()
    return [slice(run * 256, (run + 1) * 256) for run in wanted]


@dataclass(frozen=True)
class _ColumnSums:
    """Sums over so many rows of each column, float32 [C].

    An error has nothing to do with its weight where the weight is more than a step: a smaller one may be rounded to
    nought, and is then off by all of itself. Sums that have to do with both are of the wide ones.

    Args:
        rows: how many there are.
        wide: of these, how many have a weight of more than a step.
        size, error, product: Σ u², Σ z² and Σ z·u of the wide ones.
        fitted: Σ u² · D of the block, see `_of_blocks`, of the wide ones.
        mean, all_errors, weights: Σ z, Σ z² and Σ u² of all.
    """

    rows: int
    wide: Tensor
    size: Tensor
    error: Tensor
    product: Tensor
    fitted: Tensor
    mean: Tensor
    all_errors: Tensor
    weights: Tensor

    @staticmethod
    def of(piece: Rows, group: int, loops: SampleLoops | None = None) -> _ColumnSums:
        if loops is not None:
            found = loops.column_sums(piece.fine, piece.coarse, piece.variance, SQRT12, group)
            return _ColumnSums(len(piece.fine), *found)
        z, u, _ = piece.in_sigmas()
        wide, squared, squares = _wide(u), z * z, u.square()
        ratio, weights = _of_blocks(squared, squares, group), squares.sum(0)
        product = (u.mul_(z).mul_(wide)).sum(0)
        size = squares.mul_(wide).sum(0)
        return _ColumnSums(
            rows=len(z),
            wide=wide.sum(0),
            size=size,
            error=wide.mul_(squared).sum(0),
            product=product,
            fitted=squares.view(len(z), -1, group).mul_(ratio[..., None]).sum(0).flatten(),
            mean=z.sum(0),
            all_errors=squared.sum(0),
            weights=weights,
        )

    @staticmethod
    def joined(parts: Sequence[_ColumnSums]) -> _ColumnSums:
        names = [name for name in _ColumnSums.__dataclass_fields__ if name != "rows"]
        sums = (torch.stack([getattr(part, name) for part in parts]).sum(0) for name in names)
        return _ColumnSums(sum(part.rows for part in parts), *sums)


def _wide(u: Tensor) -> Tensor:
    """1 where a weight is more than a step, which is in units of σ, else 0."""
    return u.abs().ge_(SQRT12)


def _of_blocks(errors: Tensor, weights: Tensor, group: int) -> Tensor:
    """D of each block: the sum of its squared errors by that of its squared weights, [rows, C] -> [rows, C / group].

    An encoder's scale is fitted to a block, so that each of its weights shrinks by κ·D of the block: one that is larger
    than its neighbours by what the errors of them all come to, not by its own.
    """
    error, size = (x.view(len(x), -1, group).sum(-1) for x in (errors, weights))
    return error / size.clamp(min=1e-30)


def _amounts_of_columns(sums: _ColumnSums, coarser: float) -> list[Trait]:
    """The mean of a column's errors, where it is far more than chance leaves."""
    mean = (sums.mean / (sums.all_errors * sums.rows).sqrt().clamp(min=1e-30)).abs()
    worst, limit = float(mean.max()), min(0.95, COLUMN_MEAN * coarser)
    if worst > limit and worst * math.sqrt(sums.rows) > ROW_DEVIATIONS:
        return [Trait("column_offsets", worst, limit)]
    return []


def _strays(rows: Rows, columns: Tensor, common: float, group: int) -> Tensor:
    """How many standard deviations Σ z·u of the wide ones strays from the common multiple of what their blocks were
    fitted by, float32 [n]: rows have nothing to do with each other, so that their own say what chance leaves."""
    z, u, _ = rows.in_sigmas()
    squares = u.square()
    shrunk = _of_blocks(z.square(), squares, group).repeat_interleave(group, dim=1) * squares
    of_rows = ((z * u - common * shrunk) * _wide(u))[:, columns]
    strays: Tensor = of_rows.sum(0) / torch.linalg.vector_norm(of_rows, dim=0).clamp(min=1e-30)
    return strays


def limit_of_all(free: float, count: int, differing: float = 0.0) -> float:
    """What the root mean square of so many deviations stays below in a clean copy.

    Each is Student's t of ν degrees of freedom. Its square has the mean ν / (ν − 2) and the second moment
    3ν² / (ν − 2)(ν − 4).

    Args:
        free: ν of each.
        count: how many they are.
        differing: what the square's mean may have beyond that.
    """
    mean, fourth = free / (free - 2), 3 * free**2 / ((free - 2) * (free - 4))
    return math.sqrt(mean + DEVIATIONS * math.sqrt((fourth - mean**2) / count) + differing)


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
