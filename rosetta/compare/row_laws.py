"""What single rows of two copies have that rounding has not: factors, amounts, other values. The laws and the limits:
docs/noise.md, "Structure beneath the noise".

Letters: R = rows, C = columns, n = blocks of a row, e = difference of the coarser copy from the finer one,
w = the finer copy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.compare.chance import limit_of_all, limit_of_one, students_t
from rosetta.compare.columns import has_independent_errors
from rosetta.compare.float_roundings import of_floats
from rosetta.compare.row_sums import RowSums
from rosetta.compare.trait import COARSE, COARSER, FITTED_DEVIATIONS, LEAST, ROW_DEVIATIONS, Trait
from rosetta.dtypes import of_scheme
from rosetta.weight import Weight

# Deviations of all rows, their root mean square, from which on rows are told by their blocks: a sum of squares says a
# third less.
LOOKED_AT = 1.25
# By how much κ differs from row to row of a clean copy; 0.12 was the largest measured (Q3_K with importance).
SHRINKAGE_APART = 0.25
# Rows that are looked at again by their blocks, and of how many blocks at least: of fewer the mean strays too far.
SECOND_LOOK, FEWEST_BLOCKS = 64, 16
WEIGHED = 2.5  # times a plain encoder's limits of rows, where errors were weighed
ROW_MEAN = 0.45  # of the errors of a row, in units of their rms
LARGEST_GROUP = 128  # columns that share a scale in the schemes of folders, where a row has more than one
# Slope of a row on its counterpart: in two bits and less a clean one keeps half. One whose largest weight was clipped
# keeps less, and keeps as much of most of its blocks.
ROW_LIKENESS = 0.4


def some_rows(weight: Weight) -> Tensor:
    """Rows from all over a matrix, int64."""
    count = weight.dims[0]
    return torch.linspace(0, count - 1, min(count, SECOND_LOOK), dtype=torch.float64).round().long()


def of_rows(coarse: Weight, fine: Weight, rows: RowSums, columns: int) -> list[Trait]:
    """What single rows have that the whole has not, but factors."""
    used = (rows.error > 0) & (rows.size_b > 0)
    if int(used.sum()) < LEAST:
        return []
    found = []
    mean = torch.where(used, (rows.gap / (rows.error * columns).sqrt()).abs(), 0.0)
    worst = float(mean.max())
    beyond = worst * math.sqrt(columns) / ROW_DEVIATIONS
    if worst > ROW_MEAN and beyond > 1 and beyond > _hanging_together(coarse, fine):
        farthest = mean.argsort(descending=True)[:SECOND_LOOK]
        if _in_most_blocks(coarse, fine, farthest[mean[farthest] > ROW_MEAN]):
            found.append(Trait("row_offsets", worst, ROW_MEAN))
    likeness = 1 + torch.where(used, rows.product / rows.size_b.clamp(min=1e-300), 0.0)
    if float(likeness.min()) < ROW_LIKENESS:
        least = _likeness_of_blocks(coarse, fine, likeness.argsort()[:SECOND_LOOK])
        if least < ROW_LIKENESS:
            found.append(Trait("rows", least, ROW_LIKENESS))
    return found


def _in_most_blocks(coarse: Weight, fine: Weight, looked_at: Tensor) -> bool:
    """Whether the errors of one of these rows have a mean that its blocks agree on; of few blocks that is believed.

    Beside a weight far larger than they, those of a block all have the level nearest to nought, half a step away where
    none is nought: an error of one sign, of that block alone.
    """
    group = blocks.group_of(coarse.dtype)
    if coarse.dims[1] // group < FEWEST_BLOCKS:
        return True
    w, c = (weight.rows(looked_at.tolist()).double() for weight in (fine, coarse))
    of_blocks = _sums_of_blocks(c - w, group)
    return float(students_t(of_blocks).abs().max()) > limit_of_one(of_blocks.shape[1] - 1)


def _sums_of_blocks(x: Tensor, group: int) -> Tensor:
    """Of the whole blocks of each row, [R, C] -> [R, n]."""
    return x[:, : x.shape[1] // group * group].reshape(len(x), -1, group).sum(2)


def _likeness_of_blocks(coarse: Weight, fine: Weight, looked_at: Tensor) -> float:
    """The least slope that half of the blocks of one of these rows have on their counterparts."""
    group = min(blocks.group_of(coarse.dtype), coarse.dims[1])
    w, c = (weight.rows(looked_at.tolist()).double() for weight in (fine, coarse))
    product, size = (_sums_of_blocks(x, group) for x in (w * c, w * w))
    return float((product / size.clamp(min=1e-300)).median(1).values.min())


def _hanging_together(coarse: Weight, fine: Weight) -> float:
    """How much farther the mean of a row's errors strays by chance than that of independent ones.

    A scheme that rounds scale and bias after it has made the codes, as MLX does to bfloat16, moves all weights of a
    group together: half a step at the end of 255 of them. Groups have nothing to do with each other, so that their
    means tell within a row, whatever the row's own is.
    """
    columns = coarse.dims[1]
    groups = columns // LARGEST_GROUP
    if groups < 2 or not (of_scheme(coarse.dtype) or of_scheme(fine.dtype)):
        return 1.0
    w, c = (weight.rows(some_rows(coarse).tolist()).double() for weight in (fine, coarse))
    e = (c - w)[:, : groups * LARGEST_GROUP].reshape(len(w), groups, LARGEST_GROUP)
    of_means, of_errors = e.mean(2).var(1).mean(), (e - e.mean((1, 2), keepdim=True)).square().mean()
    return max(1.0, float((of_means * LARGEST_GROUP / of_errors.clamp(min=1e-300)).sqrt()))


def row_factors(
    coarse: Weight, fine: Weight, rows: RowSums, weighed: bool, given_up: Tensor | None
) -> list[Trait]:
    """Factors of rows: how far the sum of each strays from what the encoder's shrinkage makes of its error.

    A sum of squares says how far it may, if errors have nothing to do with each other and with the size of weights.
    What strays farther is looked at again, by its blocks (`_by_blocks`); of few of these the limits are wider. A scheme
    whose scales are rounded after the codes were made multiplies each group, or row, by a factor, and a repair that is
    fitted to the other copy leaves errors that are not independent: of these, too.
    """
    used = (rows.error > 0) & (rows.size_b > 0)
    if int(used.sum()) < LEAST:
        return []
    strays = (rows.product - _common(rows) * rows.error) / rows.spread.sqrt().clamp(min=1e-300)
    off = torch.where(used, strays.abs(), 0.0)
    usual = max(1.0, float(off[used].square().median().sqrt()) / 0.6745)
    farthest, all_of_them = float(off.max()), float(off[used].square().mean().sqrt())
    of_one, of_all = ROW_DEVIATIONS * usual, FITTED_DEVIATIONS
    looked_at = _blocks_looked_at(coarse, given_up)
    count, independent = int(looked_at.sum()), has_independent_errors(fine, coarse)
    if farthest <= of_one and all_of_them <= (
        LOOKED_AT if independent and count >= FEWEST_BLOCKS else of_all
    ):
        return []
    distance = float((rows.error[used] / rows.size_b[used]).median())
    if count >= FEWEST_BLOCKS:
        common = _common(rows) if given_up is None else None
        farthest, all_of_them = _by_blocks(coarse, fine, off, common, looked_at)
        of_one = limit_of_one(count - 1)
        if independent:
            of_all = _limit_of_rows(coarse, count, distance)
    else:
        wide = (COARSER if distance > COARSE else 1.0) * (WEIGHED if weighed else 1.0)
        of_one, of_all = of_one * wide, of_all * wide
        farthest, all_of_them = _by_sizes(coarse, fine, off, rows.spread)
    if farthest > of_one:
        return [Trait("row_factors", farthest, of_one)]
    return [Trait("row_factors", all_of_them, of_all)] if all_of_them > of_all else []


def _limit_of_rows(coarse: Weight, count: int, distance: float) -> float:
    """What the root mean square of all rows' deviations, each told by so many blocks, stays below in a clean copy.

    What κ differs by from row to row adds its part of D to each row's slope, which is known to √(D / C).

    Args:
        coarse: the matrix.
        count: blocks of a row.
        distance: D = Σ e² / Σ w² of a row.
    """
    looked_at = min(coarse.dims[0], SECOND_LOOK)
    return limit_of_all(count - 1, looked_at, SHRINKAGE_APART**2 * distance * coarse.dims[1])


def _common(rows: RowSums) -> float:
    """−κ of all rows: what the encoder's shrinkage is, Σ e·w of a row over its Σ e², each row in units of its own size:
    a massive one would speak for all."""
    size = rows.size_b.clamp(min=1e-300)
    return float((rows.product / size).sum() / (rows.error / size).sum().clamp(min=1e-300))


def _blocks_looked_at(coarse: Weight, given_up: Tensor | None) -> Tensor:
    """The whole blocks of a row but those that were given up for a salient channel, whose errors are what is left of
    their weights: bool [n]."""
    group = blocks.group_of(coarse.dtype)
    whole = coarse.dims[1] // group
    if given_up is None:
        return torch.ones(whole, dtype=torch.bool)
    return ~given_up[: whole * group].view(whole, group).any(1)


def _by_blocks(
    coarse: Weight, fine: Weight, off: Tensor, common: float | None, looked_at: Tensor
) -> tuple[float, float]:
    """How many standard deviations the farthest row strays, and all of them by their root mean square, told by their
    blocks: the errors of one hang together, by its scale, and large weights have the large ones, but two blocks have
    nothing to do with each other.

    Args:
        coarse, fine: the copies.
        off: of each row how far it strays by a sum of squares, [R]: the farthest ones are looked at, and some more.
        common: −κ of all rows; None: that of these blocks, by rows from all over the matrix.
        looked_at: blocks of a row, bool [n].
    """
    group, chosen, some = blocks.group_of(coarse.dtype), *_looked_at_again(coarse, off)
    w, c = (weight.rows(chosen).double() for weight in (fine, coarse))
    e = c - w
    product, error = (_sums_of_blocks(x, group)[:, looked_at] for x in (e * w, e.square()))
    if common is None:
        size = w[-some:].square().sum(1, keepdim=True).clamp(min=1e-300)
        common = float((product[-some:] / size).sum() / (error[-some:] / size).sum().clamp(min=1e-300))
    of_blocks = product - common * error
    t = students_t(of_blocks) * _part_of_chance(coarse, fine, chosen, of_blocks.var(1) * of_blocks.shape[1])
    return float(t.abs().max()), float(t[-some:].square().mean().sqrt())


def _by_sizes(coarse: Weight, fine: Weight, off: Tensor, spread: Tensor) -> tuple[float, float]:
    """The same by a sum of squares, of rows of few blocks.

    Args:
        coarse, fine, off: as above.
        spread: the variance that `off` is in units of, [R].
    """
    chosen, some = _looked_at_again(coarse, off)
    part = _part_of_chance(coarse, fine, chosen, spread[chosen])
    used = off[spread > 0]
    return float((off[chosen] * part).max()), float(
        (used.square().mean() * part[-some:].square().mean()).sqrt()
    )


def _looked_at_again(coarse: Weight, off: Tensor) -> tuple[list[int], int]:
    """The rows that stray farthest, then some from all over the matrix, and how many the latter are."""
    some = some_rows(coarse).tolist()
    return [*off.argsort(descending=True)[:SECOND_LOOK].tolist(), *some], len(some)


def _part_of_chance(coarse: Weight, fine: Weight, rows: list[int], variance: Tensor) -> Tensor:
    """The root of the part that a variance of Σ e·w, which looks at weights one by one or at blocks, is of what it is
    where all of a row's roundings to floats are one, [n]."""
    together = of_floats(fine.rows(rows), (coarse, fine)).sum(1).square()
    return (variance / (variance + together).clamp(min=1e-300)).sqrt()
