"""What the difference of two copies has that rounding has not: a fault beneath the noise of quantisation.

Rounding errors are as large as their steps and have no structure. A factor, an amount added, an adapter that was not
merged may be smaller than the errors of a single weight, and still shows in the sum over all of them. The laws and
the limits: docs/noise.md, "Structure beneath the noise".

Letters: R = rows, C = columns, e = difference of the coarser copy from the finer one, w = the finer copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.blocks.fields import SQRT12
from rosetta.compare.spectrum import beyond_noise, largest_singular_value
from rosetta.dtypes import FLOATS, of_scheme
from rosetta.weight import Device, Weight, row_ranges
from rosetta.weight_cache import DecodedPair

LEAST = 32  # rows and columns: fewer are no sample of anything
# Of a matrix, what its columns and its rank are judged by: all of a small one; of a large one so many rows, and of
# these so many columns. A matrix of low rank is spread over all of it, and shows in a part of that size.
SAMPLED, SIDE = 1 << 20, 512

# Shrinkage κ: an encoder's error is −κ·D of the weight, D = |e|² / |w|². Rounding to the nearest step has κ = 0, a
# scale of least squares κ = 1, clipping what does not matter more than that; no encoder makes weights larger.
# Largest one with a margin, of plain encoders and of such as weigh errors by importance: blocks do not always tell.
LARGEST_SHRINKAGE = {
    "Q2_K": 1.6,
    "Q3_K": 2.0,
    "Q5_0": 4.0,
    "Q5_1": 4.0,
    "Q5_K": 5.0,
    "Q6_K": 12.0,
    "Q8_0": 2.0,
    "APR_Q8": 2.0,
}
OTHER_SHRINKAGE = 2.8
# Their encoders search scale and codeword by turns and may leave a block larger: by half of D was seen (IQ3_S).
# So may the schemes of folders: they keep a group's two ends as they are, and the next levels stand for less.
CODEBOOKS = ("IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_S", "IQ1_M")
DEVIATIONS = 6.0  # of the mean of so many independent errors
# Of one row or column, in standard deviations, and of all of them by their root mean square.
ROW_DEVIATIONS, ROWS_DEVIATIONS = 8.0, 3.0
COHERENT = 0.5  # of a column's squared error, what its own multiple explains: a clean one has up to 0.16
COHERENT_ALL = 0.2  # of all columns' squared errors, in four bits and more; 0.09 was seen
WEIGHED = 2.5  # times a plain encoder's limits of rows, where errors were weighed
COARSE, COARSER = (
    0.015,
    1.6,
)  # D from which on, in three bits and less, rows and columns may be off by so much more
# Mean of the errors in units of their rms: an encoder with a minimum is biased by up to 0.04 over a tensor.
MEAN, ROW_MEAN, COLUMN_MEAN = 0.12, 0.45, 0.7
ROW_LIKENESS = 0.4  # slope of one row on its counterpart: in two bits and less a clean one keeps half

# GPTQ (Frantar et al. 2022) moves each weight by the errors of those before it: no nearest code is what counts, but
# what the inputs make of all errors together. These schemes' errors are larger than their steps say, by 1.5 to 3 times
# as measured, and hang together between columns; within a group of neighbours they still have neither a common sign nor
# anything of the weights in them: root mean square over all groups, of what chance has, 0.91 to 1.13.
COMPENSATING = ("GPTQ:", "CT:INT")
COMPENSATED = 4.0  # times the predicted error
NEIGHBOURS, NEIGHBOURS_ALIKE = 32, 1.5
# What was made from a quantised copy and not from its source is off by less than both roundings: up to 0.71 of them was
# measured, of the source's nearest codes 0.79 and more. A group has few values then, each off by the same wherever it
# stands, and such errors have means, factors and ranks that are no fault.
SMALLER = 0.75

# Of neighbours in a run sorted by size, how many are equal: of 32 levels a block (Q5_0) a fifth, of 64 (Q6_K) a tenth,
# of BF16's own 2 %. Of equal weights, how many an encoder gives equal codes: all, as it rounds each by itself.
RUN, LEVELS, ALIKE = 16, 0.08, 0.995
LEVELS_SLOPE = 0.03  # the largest factor that an encoder makes of such weights; 0.021 was seen

# Rows of a table may be equal, of tokens that no text had, and so are their errors: rank says nothing there.
TABLES = ("token_embd.weight", "output.weight", "position_embd.weight")
EQUAL = 0.05  # of the values: what is equal on both sides is no sample of errors (a region taken by a repair)
SCALE_ROUNDING = 2e-3  # of a block's scale, a float16 or six bits of one: of equal rows all the same

Kind = Literal[
    "factor",
    "row_factors",
    "column_factors",
    "group_factors",
    "offset",
    "row_offsets",
    "column_offsets",
    "group_offsets",
    "rows",
    "rank",
]
SAID: dict[Kind, str] = {
    "factor": "the coarser copy is {value:.5g} times the finer one, which is outside what its encoder does",
    "row_factors": "rows differ by factors of their own: {value:.3g} standard deviations, {limit:.3g} are noise",
    "column_factors": "columns differ by factors of their own: {value:.2g} of a column's error is a multiple of it",
    "group_factors": "neighbours in a row have errors that are multiples of them: {value:.3g} of what chance has",
    "group_offsets": "neighbours in a row have errors of one sign: their mean is {value:.3g} of what chance has",
    "offset": "the errors have a mean of {value:.3g} times their size",
    "row_offsets": "the errors of a row have a mean of {value:.3g} times their size",
    "column_offsets": "the errors of a column have a mean of {value:.3g} times their size",
    "rows": "a row has no more than {value:.2g} of its counterpart in it",
    "rank": "the difference has a part of low rank: its largest singular value is {value:.3g} of what noise has",
}


@dataclass(frozen=True)
class Trait:
    """One thing in which a difference is no rounding.

    Args:
        kind: which test found it.
        value: what was measured.
        limit: what rounding stays within.
    """

    kind: Kind
    value: float
    limit: float

    @property
    def words(self) -> str:
        return SAID[self.kind].format(value=self.value, limit=self.limit)


@dataclass(frozen=True)
class RowSums:
    """Sums over the columns of each row of two copies a and b, float64 [R].

    Args:
        product: Σ (a − b)·b.
        gap: Σ (a − b).
        error: Σ (a − b)².
        explained: Σ of the variance that the dtypes explain.
        size_a, size_b: Σ a² and Σ b².
        spread: Σ (a − b)²·b², the variance of `product`.
    """

    product: Tensor
    gap: Tensor
    error: Tensor
    explained: Tensor
    size_a: Tensor
    size_b: Tensor
    spread: Tensor

    @staticmethod
    def joined(parts: Sequence[RowSums]) -> RowSums:
        names = RowSums.__dataclass_fields__
        return RowSums(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def turned(self) -> RowSums:
        """The same with a and b exchanged: Σ (b − a)·a = −(Σ (a − b)·b + Σ (a − b)²)."""
        return RowSums(
            product=-(self.product + self.error),
            gap=-self.gap,
            error=self.error,
            explained=self.explained,
            size_a=self.size_b,
            size_b=self.size_a,
            spread=self.spread,
        )


def row_sums(
    a: Tensor, b: Tensor, gap: Tensor, error: Tensor, explained: Tensor, proportional: bool
) -> RowSums:
    """The sums of some rows.

    Args:
        a, b: the copies, float32 [rows, C].
        gap: their difference.
        error, explained: its squares and their predicted variance, summed over each row already, [rows].
        proportional: whether each error is as large as its weight, as in float dtypes; else of a block's size.
    """
    sums = [torch.linalg.vecdot(gap, b), gap.sum(1), error, explained]
    sums += [torch.linalg.vecdot(x, x) for x in (a, b)]
    sums.append((gap * b).square_().sum(1) if proportional else error * sums[-1] / a.shape[1])
    return RowSums(*(x.double().cpu() for x in sums))


def traits(
    left: Weight, right: Weight, rows: RowSums, weighed: bool, kept: DecodedPair, device: Device = "cpu"
) -> tuple[Trait, ...]:
    """What two copies that agree within their noise differ in all the same.

    Args:
        left, right: the copies, matrices.
        rows: their sums, a = left.
        weighed: whether the encoder weighed some columns' errors more than others'.
        kept: rows that need not be decoded.
        device: where the others are.
    """
    count, columns = left.dims[0], left.count // max(1, left.dims[0])
    if min(count, columns) < LEAST or len(left.dims) != 2:
        return ()
    if {left.dtype, right.dtype} <= {"F32", "F64"}:
        return ()  # nothing is rounded but in arithmetic, one way or another
    if float(rows.error.sum()) < SMALLER**2 * float(rows.explained.sum()):
        return ()
    coarse_is_left = _is_coarser(left, right)
    if not coarse_is_left:
        rows = rows.turned()
    coarse, fine = (left, right) if coarse_is_left else (right, left)
    found = [*_of_whole(coarse, fine, rows, columns), *_of_rows(rows, columns, weighed)]
    if not found:  # what a factor explains is not looked at further: its repair is
        found = _of_sample(coarse, fine, weighed, kept, device)
    if found and _follows_levels(coarse, fine, kept, device):
        return tuple(
            trait for trait in found if trait.kind == "factor" and abs(trait.value - 1) > LEVELS_SLOPE
        )
    return tuple(found)


def compensates(left: Weight, right: Weight) -> bool:
    """Whether the coarser of two copies may be of an encoder that made good the errors of some weights by others."""
    coarse = left if _is_coarser(left, right) else right
    return coarse.dtype.startswith(COMPENSATING)


def _is_coarser(left: Weight, right: Weight) -> bool:
    """Whether the left copy is the coarser one, by the bytes that it takes and the bits of its mantissa."""
    mantissa = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
    sizes = [(mantissa.get(w.dtype, 0), w.entry.file_bytes / max(1, w.count)) for w in (left, right)]
    return sizes[0] <= sizes[1]


def slope_limits(coarse: Weight, fine: Weight, distance: float) -> tuple[float, float]:
    """Between which two numbers a clean pair's Σ e·w / Σ w² lies.

    Args:
        coarse, fine: the copies.
        distance: D = Σ e² / Σ w².
    """
    if coarse.dtype in FLOATS:  # truncated instead of rounded, each is smaller by half its error's bound
        return (-1.1 * math.sqrt(distance), 0.0 if fine.dtype == "F32" else distance)
    low = -LARGEST_SHRINKAGE.get(coarse.dtype, OTHER_SHRINKAGE) * distance
    low -= SCALE_ROUNDING
    searched_or_ends_kept = coarse.dtype in CODEBOOKS or of_scheme(coarse.dtype)
    grown = SCALE_ROUNDING + (distance if searched_or_ends_kept else 0.0)
    if fine.dtype in FLOATS:
        return low, grown
    high = (
        LARGEST_SHRINKAGE.get(fine.dtype, OTHER_SHRINKAGE) * distance
    )  # the finer one's own error is in w, too
    return low - distance, high + grown


def _of_whole(coarse: Weight, fine: Weight, rows: RowSums, columns: int) -> list[Trait]:
    error, size, count = float(rows.error.sum()), float(rows.size_b.sum()), len(rows.error) * columns
    if not error or not size or not math.isfinite(error + size):
        return []
    found, distance = [], error / size
    slope, noise = float(rows.product.sum()) / size, DEVIATIONS * math.sqrt(float(rows.spread.sum())) / size
    low, high = slope_limits(coarse, fine, distance)
    if not low - noise <= slope <= high + noise:
        found.append(Trait("factor", 1 + slope, 1 + (low if slope < 0 else high)))
    mean = float(rows.gap.sum()) / math.sqrt(error * count)
    if abs(mean) > MEAN and abs(mean) * math.sqrt(count) > DEVIATIONS:
        found.append(Trait("offset", mean, MEAN))
    return found


def _of_rows(rows: RowSums, columns: int, weighed: bool) -> list[Trait]:
    """What single rows have that the whole has not."""
    used = (rows.error > 0) & (rows.size_b > 0)
    if int(used.sum()) < LEAST:
        return []
    error, size = rows.error[used], rows.size_b[used]
    found, distance, slope = [], error / size, rows.product[used] / size
    common = float(rows.product.sum() / rows.error.sum())  # −κ
    deviations = (slope - common * distance) * size / rows.spread[used].sqrt()
    usual = max(1.0, float(deviations.square().median().sqrt()) / 0.6745)
    all_of_them = float(deviations.square().mean().sqrt())
    coarse = COARSER if float(distance.median()) > COARSE else 1.0
    wide = coarse * (WEIGHED if weighed else 1.0)
    of_one, of_all = ROW_DEVIATIONS * usual * wide, ROWS_DEVIATIONS * wide
    if float(deviations.abs().max()) > of_one:
        found.append(Trait("row_factors", float(deviations.abs().max()), of_one))
    elif all_of_them > of_all:
        found.append(Trait("row_factors", all_of_them, of_all))
    mean = (rows.gap[used] / (error * columns).sqrt()).abs()
    worst = float(mean.max())
    if worst > ROW_MEAN and worst * math.sqrt(columns) > ROW_DEVIATIONS:
        found.append(Trait("row_offsets", worst, ROW_MEAN))
    least = 1 + float(slope.min())
    if least < ROW_LIKENESS:
        found.append(Trait("rows", least, ROW_LIKENESS))
    return found


def _of_sample(coarse: Weight, fine: Weight, weighed: bool, kept: DecodedPair, device: Device) -> list[Trait]:
    """What columns have, and the rank, by some of the rows: each error in units of its σ, so that no row, however
    large, speaks for all."""
    rows = _sampled_rows(coarse)
    parts = [(part, part_rows - part[0]) for part, part_rows in rows]
    w = torch.cat([kept.values(fine, *part, device)[local] for part, local in parts])
    e = torch.cat([kept.values(coarse, *part, device)[local] for part, local in parts]) - w
    coarser = COARSER if float(e.square().sum() / w.square().sum()) > COARSE else 1.0
    inverse = torch.cat([kept.variance(coarse, fine, *part, device)[local] for part, local in parts])
    inverse = inverse.clamp(min=1e-30).rsqrt_()
    z, u = e.mul_(inverse), w * inverse
    found = _of_columns(z, u, weighed, coarser)
    if compensates(coarse, fine):
        return [*found, *_of_neighbours(z, u)]
    if found or coarse.name in TABLES or any(map(_depends_on_other, (coarse, fine))):
        return found
    if int((z == 0).sum()) > EQUAL * z.numel():
        return found
    group = min(blocks.group_of(weight.dtype) for weight in (coarse, fine))
    if len(z) < coarse.dims[0]:
        z, u, inverse = (_sampled_columns(x) for x in (z, u, inverse))
    largest = largest_singular_value(beyond_noise(z, u, inverse, group))
    limit = rank_limit(len(z), z.shape[1])
    return [Trait("rank", largest, limit)] if largest > limit else []


def _follows_levels(coarse: Weight, fine: Weight, kept: DecodedPair, device: Device) -> bool:
    """Whether the finer copy has few values a block, and the coarser one is a function of them: it was encoded from
    what is quantised already, and its errors are not independent of the weights."""
    equal = alike = total = 0
    for part, rows in _sampled_rows(coarse):
        few = rows[:: max(1, len(rows) // LEAST)] - part[0]
        w, c = (kept.values(weight, *part, device)[few] for weight in (fine, coarse))
        columns = w.shape[1] // RUN * RUN
        w, c = (x[:, :columns].reshape(-1, RUN) for x in (w, c))
        w, order = w.sort(dim=1)
        c = c.gather(1, order)
        same = (w[:, 1:] == w[:, :-1]) & (w[:, 1:] != 0)  # zeros may be pruned weights
        equal, total = equal + int(same.sum()), total + same.numel()
        alike += int((same & (c[:, 1:] == c[:, :-1])).sum())
    by_vectors = coarse.dtype in CODEBOOKS  # which encode eight weights at once, and equal ones otherwise
    return equal > LEVELS * total and (by_vectors or alike >= ALIKE * equal)


def _sampled_rows(weight: Weight) -> list[tuple[tuple[int, int], Tensor]]:
    """Some of the rows from all over a matrix, by the ranges that they are decoded in; all rows of a small one."""
    total = weight.dims[0]
    count = (
        total if weight.count <= SAMPLED else min(total, max(SIDE // 2, min(SIDE, SAMPLED // weight.dims[1])))
    )
    chosen = torch.linspace(0, total - 1, count, dtype=torch.float64).round().long()
    found = [(part, chosen[(chosen >= part[0]) & (chosen < part[1])]) for part in row_ranges(weight)]
    return [(part, rows) for part, rows in found if len(rows)]


def _sampled_columns(x: Tensor) -> Tensor:
    """Columns in runs of whole superblocks from all over a matrix; all of them where it has no more than is needed."""
    if x.shape[1] < 2 * SIDE:
        return x
    runs = x.shape[1] // 256
    wanted = torch.linspace(0, runs - 1, SIDE // 256, dtype=torch.float64).round().long().tolist()
    return torch.cat([x[:, run * 256 : (run + 1) * 256] for run in wanted], dim=1)


def _of_columns(z: Tensor, u: Tensor, weighed: bool, coarser: float) -> list[Trait]:
    """What single columns have, and all of them.

    An error has nothing to do with its weight where the weight is more than a step: a smaller one may be rounded to
    nought, and is then off by all of itself.
    """
    wide = u.abs() >= SQRT12  # a step, in units of σ
    both = torch.where(wide, z * u, 0.0)
    size, error = (torch.where(wide, x.square(), 0.0).sum(0) for x in (u, z))
    product, enough = both.sum(0), wide.sum(0) >= LEAST
    coherent = torch.where(enough, product.square() / (size * error).clamp(min=1e-30), 0.0)
    mean_coherent = float(coherent.sum() / enough.sum().clamp(min=1))
    if coarser == 1.0 and int(enough.sum()) >= LEAST and mean_coherent > COHERENT_ALL:
        return [Trait("column_factors", mean_coherent, COHERENT_ALL)]
    found: list[Trait] = []
    if not weighed:
        deviations = product.abs() / both.square().sum(0).sqrt().clamp(min=1e-30)
        beyond = (coherent > COHERENT * coarser) & (deviations > ROW_DEVIATIONS)
        if bool(beyond.any()):
            found.append(Trait("column_factors", float(coherent[beyond].max()), COHERENT * coarser))
        mean = (z.sum(0) / (z.square().sum(0) * len(z)).sqrt().clamp(min=1e-30)).abs()
        worst = float(mean.max())
        if worst > min(0.95, COLUMN_MEAN * coarser) and worst * math.sqrt(len(z)) > ROW_DEVIATIONS:
            found.append(Trait("column_offsets", worst, min(0.95, COLUMN_MEAN * coarser)))
    return found


def _of_neighbours(e: Tensor, w: Tensor) -> list[Trait]:
    """What errors have in common with each other and with the weights in groups of neighbours, both in units of σ."""
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


def _depends_on_other(weight: Weight) -> bool:
    """Whether a repair fitted numbers to the other copy, many of them: the errors left are not independent."""
    return any(getattr(edit, "fitted", False) for edit in weight.values_edits)


RANK = 0.02  # of √R + √C, above what a matrix of independent errors has as its largest singular value


def rank_limit(rows: int, columns: int) -> float:
    """The largest singular value of clean errors in units of √R + √C: 1 (Geman 1980), and what small matrices
    fluctuate by (Johnstone 2001, eq. 1.2: the largest squared one by (√R + √C)(1/√R + 1/√C)^⅓)."""
    edge = math.sqrt(rows) + math.sqrt(columns)
    fluctuation = edge * (1 / math.sqrt(rows) + 1 / math.sqrt(columns)) ** (1 / 3)
    return math.sqrt(1 + 5 * fluctuation / edge**2) + RANK
