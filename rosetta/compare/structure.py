"""What the difference of two copies has that rounding has not: a fault beneath the noise of quantisation.

Rounding errors are as large as their steps and have no structure. A factor, an amount added, an adapter that was not
merged may be smaller than the errors of a single weight, and still shows in the sum over all of them. The laws and
the limits: docs/noise.md, "Structure beneath the noise".

Letters: R = rows, C = columns, e = difference of the coarser copy from the finer one, w = the finer copy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.compare.chance import limit_of_all, limit_of_one, students_t
from rosetta.compare.columns import has_independent_errors
from rosetta.compare.float_roundings import of_floats
from rosetta.compare.structure_sample import COMPENSATING, SampleTests, is_coarser
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
from rosetta.weight import Weight

LOOKED_AT = 1.25  # of these, from where on rows are told by their blocks: a sum of squares says a third less
# By how much κ differs from row to row of a clean copy; 0.12 was the largest measured (Q3_K with importance).
SHRINKAGE_APART = 0.25
# Rows that are looked at again by their blocks, and of how many blocks at least: of fewer the mean strays too far.
SECOND_LOOK, FEWEST_BLOCKS = 64, 16
WEIGHED = 2.5  # times a plain encoder's limits of rows, where errors were weighed
# Mean of the errors in units of their rms: an encoder with a minimum is biased by up to 0.04 over a tensor.
MEAN, ROW_MEAN = 0.12, 0.45
LARGEST_GROUP = 128  # columns that share a scale in the schemes of folders, where a row has more than one
# Slope of a row on its counterpart: in two bits and less a clean one keeps half. One whose largest weight was clipped
# keeps less, and keeps as much of most of its blocks.
ROW_LIKENESS = 0.4

COMPENSATED = 4.0  # times the predicted error
# What was made from a quantised copy and not from its source is off by less than both roundings: up to 0.71 of them was
# measured, of the source's nearest codes 0.79 and more. A group has few values then, each off by the same wherever it
# stands, and such errors have means, factors and ranks that are no fault.
SMALLER = 0.75

EIGHT_BITS = 256  # magnitudes of such codes, however far off their zero is
LEVELS_SLOPE = 0.03  # the largest factor that an encoder makes of such weights; 0.021 was seen
# ggml-quants.c, quantize_row_q4_0_ref and q5_0: codes go from −n to n − 1, and a block's largest weight has −n. What is
# as large and has the other sign loses 1 / n of itself: half of all weights, where they have two levels and nought.
ONE_SIDED = {"Q4_0": 8, "Q5_0": 16}

# Of a row's |x|² in float32, relative: eight running sums, each of a few thousand weights and less (measured: 3e-7).
SIZE_ROUNDING = 1e-6
SCALE_ROUNDING = 2e-3  # of a block's scale, a float16 or six bits of one: of equal rows all the same


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
    def empty(rows: int) -> RowSums:
        """Of so many rows, to be `put`."""
        return RowSums(*(torch.empty(rows, dtype=torch.float64) for _ in RowSums.__dataclass_fields__))

    def put(self, start: int, some: RowSums) -> None:
        """Take over the sums of some rows, from `start` on."""
        for name in RowSums.__dataclass_fields__:
            of_some = getattr(some, name)
            getattr(self, name)[start : start + len(of_some)] = of_some

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


@dataclass(frozen=True)
class PassedRows:
    """What is seen of two copies a and b in one pass over some rows, [R, C].

    Args:
        error, explained: means over groups of columns of (a − b)² and of the variance that the dtypes explain, float32
            [R, G]; the last group may be short.
        gap, size_a, size_b: Σ (a − b), Σ a² and Σ b² of each row, float64 [R].
        product, spread: as in `RowSums`; None where they follow from the sizes.
    """

    error: Tensor
    explained: Tensor
    gap: Tensor
    size_a: Tensor
    size_b: Tensor
    product: Tensor | None = None
    spread: Tensor | None = None


def pass_over(a: Tensor, b: Tensor, explained: Tensor, group: int, proportional: bool) -> PassedRows:
    """See what there is to see of some rows.

    Args:
        a, b, explained: the copies and the variance of their difference, float32 [R, C].
        group: columns of a group.
        proportional: whether each error is as large as its weight, as in float dtypes; else of a block's size.
    """
    gap = a - b
    of_rows = gap.sum(1).double()
    product = spread = None
    if proportional:
        both = gap * b
        product, spread = both.sum(1).double(), torch.linalg.vector_norm(both, dim=1).double().square()
    size_a, size_b = (torch.linalg.vector_norm(x, dim=1).double().square() for x in (a, b))
    means = by_group(gap.square_(), group), by_group(explained, group)
    return PassedRows(*means, of_rows, size_a, size_b, product, spread)


def by_group(x: Tensor, group: int) -> Tensor:
    """Mean over groups of columns, [R, C] -> [R, ⌈C / G⌉]; the last group may be short."""
    rows, columns = x.shape
    whole = columns // group * group
    # A product takes half of the time of a sum over so few.
    means = (x[:, :whole].reshape(-1, group) @ x.new_full((group, 1), 1 / group)).view(rows, -1)
    return means if whole == columns else torch.cat([means, x[:, whole:].mean(-1, keepdim=True)], dim=1)


def row_sums(passed: PassedRows, widths: Tensor) -> RowSums:
    """The sums of some rows.

    Where errors are of a block's size, Σ (a − b)·b follows from the three sizes, |a|² = |b|² + 2 (a − b)·b + |a − b|²,
    and costs no pass over the rows; what the rounding of these adds to its variance is in `spread`. Errors as large as
    their weights may be no larger than that.

    Args:
        passed: what was seen of them.
        widths: columns of each group, [G].
    """
    error, explained = ((x @ widths.to(x)).double() for x in (passed.error, passed.explained))
    size_a, size_b, product, spread = passed.size_a, passed.size_b, passed.product, passed.spread
    if product is None or spread is None:
        product = (size_a - size_b - error) / 2
        spread = error * size_b / float(widths.sum()) + (SIZE_ROUNDING * size_b).square()
    sums = (product, passed.gap, error, explained, size_a, size_b, spread)
    return RowSums(*(x.cpu() for x in sums))


def tells_structure(left: Weight, right: Weight) -> bool:
    """Whether the errors of two copies of a matrix are independent where nothing is wrong, and enough to tell."""
    if len(left.dims) != 2 or min(left.dims) < LEAST:
        return False
    if {left.dtype, right.dtype} <= {"F32", "F64"}:
        return False  # nothing is rounded but in arithmetic, one way or another
    # A repair that was held to the order of the weights, by which other ones show sooner.
    return not (left.rounded_to_nearest or right.rounded_to_nearest)


def traits(
    tests: SampleTests, rows: RowSums, weighed: bool, given_up: Tensor | None = None
) -> tuple[Trait, ...]:
    """What two copies that agree within their noise differ in all the same.

    Args:
        tests: of some rows of the copies, which tell of structure.
        rows: sums of all of them, a = the left one.
        weighed: whether the encoder weighed some columns' errors more than others'.
        given_up: columns of blocks that were fitted to a salient channel, bool [C]; None: there are none.
    """
    if float(rows.error.sum()) < SMALLER**2 * float(rows.explained.sum()):
        return ()
    coarse, fine, columns = tests.coarse, tests.fine, tests.coarse.dims[1]
    if coarse is not tests.left:
        rows = rows.turned()
    found = [
        *_of_whole(coarse, fine, rows, columns),
        *_row_factors(coarse, fine, rows, weighed, given_up),
        *_of_rows(coarse, fine, rows, columns),
    ]
    if not found:  # what a factor explains is not looked at further: its repair is
        size = float(rows.size_b.sum())
        found = tests.traits(weighed, float(rows.error.sum()) / size if size else math.inf, given_up)
    if found and tests.follow_levels():
        low = 1 - LEVELS_SLOPE - (0.5 / ONE_SIDED[coarse.dtype] if coarse.dtype in ONE_SIDED else 0.0)
        return tuple(
            trait for trait in found if trait.kind == "factor" and not low <= trait.value <= 1 + LEVELS_SLOPE
        )
    return tuple(found)


def compensates(left: Weight, right: Weight) -> bool:
    """Whether the coarser of two copies may be of an encoder that made good the errors of some weights by others."""
    coarse = left if is_coarser(left, right) else right
    return coarse.dtype.startswith(COMPENSATING)


def slope_limits(coarse: Weight, fine: Weight, distance: float) -> tuple[float, float]:
    """Between which two numbers a clean pair's Σ e·w / Σ w² lies.

    Args:
        coarse, fine: the copies.
        distance: D = Σ e² / Σ w².
    """
    encoded = fine.encoded_like or fine.dtype
    if encoded not in FLOATS and coarse.dtype in FLOATS:  # a repair says that the finer one was decoded
        return -distance - SCALE_ROUNDING, largest_shrinkage(encoded) * distance + SCALE_ROUNDING
    if coarse.dtype in FLOATS:  # truncated instead of rounded, each is smaller by half its error's bound
        return (-1.1 * math.sqrt(distance), 0.0 if fine.dtype == "F32" else distance)
    low = -largest_shrinkage(coarse.dtype) * distance
    low -= SCALE_ROUNDING
    # Codebooks' encoders may leave a block larger: by half of D was seen (IQ3_S). So may the schemes of folders: they
    # keep a group's two ends as they are, and the next levels stand for less.
    searched_or_ends_kept = coarse.dtype in CODEBOOKS or of_scheme(coarse.dtype)
    grown = SCALE_ROUNDING + (distance if searched_or_ends_kept else 0.0)
    if encoded in FLOATS:
        return low, grown
    high = largest_shrinkage(encoded) * distance  # the finer one's own error is in w, too
    return low - distance, high + grown


def _of_whole(coarse: Weight, fine: Weight, rows: RowSums, columns: int) -> list[Trait]:
    error, size, count = float(rows.error.sum()), float(rows.size_b.sum()), len(rows.error) * columns
    if not error or not size or not math.isfinite(error + size):
        return []
    found, distance = [], error / size
    slope, noise = float(rows.product.sum()) / size, DEVIATIONS * math.sqrt(float(rows.spread.sum())) / size
    low, high = slope_limits(coarse, fine, distance)
    beyond = max(low - slope, slope - high)
    if beyond > noise and beyond > noise + _of_one_scale(coarse, fine):
        found.append(Trait("factor", 1 + slope, 1 + (low if slope < 0 else high)))
    mean = float(rows.gap.sum()) / math.sqrt(error * count)
    if abs(mean) > MEAN and abs(mean) * math.sqrt(count) > DEVIATIONS:
        found.append(Trait("offset", mean, MEAN))
    return found


def _of_one_scale(coarse: Weight, fine: Weight) -> float:
    """The largest Σ e·w / Σ w² that roundings to floats make of a matrix, all of one sign: none is off by more than √3
    of its standard deviations. Nought where its values are more than codes of eight bits and one scale make."""
    w = fine.rows(_some_rows(coarse).tolist())
    if len(torch.unique(w.abs())) > EIGHT_BITS:
        return 0.0
    return math.sqrt(3) * float(of_floats(w, (coarse, fine)).sum()) / float(w.double().square().sum())


def _some_rows(weight: Weight) -> Tensor:
    """Rows from all over a matrix, int64."""
    count = weight.dims[0]
    return torch.linspace(0, count - 1, min(count, SECOND_LOOK), dtype=torch.float64).round().long()


def _of_rows(coarse: Weight, fine: Weight, rows: RowSums, columns: int) -> list[Trait]:
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
    w, c = (weight.rows(_some_rows(coarse).tolist()).double() for weight in (fine, coarse))
    e = (c - w)[:, : groups * LARGEST_GROUP].reshape(len(w), groups, LARGEST_GROUP)
    of_means, of_errors = e.mean(2).var(1).mean(), (e - e.mean((1, 2), keepdim=True)).square().mean()
    return max(1.0, float((of_means * LARGEST_GROUP / of_errors.clamp(min=1e-300)).sqrt()))


def _row_factors(
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
    off = off[chosen] * _part_of_chance(coarse, fine, chosen, spread[chosen])
    return float(off.max()), float(off[-some:].square().mean().sqrt())


def _looked_at_again(coarse: Weight, off: Tensor) -> tuple[list[int], int]:
    """The rows that stray farthest, then some from all over the matrix, and how many the latter are."""
    some = _some_rows(coarse).tolist()
    return [*off.argsort(descending=True)[:SECOND_LOOK].tolist(), *some], len(some)


def _part_of_chance(coarse: Weight, fine: Weight, rows: list[int], variance: Tensor) -> Tensor:
    """The root of the part that a variance of Σ e·w, which looks at weights one by one or at blocks, is of what it is
    where all of a row's roundings to floats are one, [n]."""
    together = of_floats(fine.rows(rows), (coarse, fine)).sum(1).square()
    return (variance / (variance + together).clamp(min=1e-300)).sqrt()
