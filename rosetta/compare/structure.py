"""What the difference of two copies has that rounding has not: a fault beneath the noise of quantisation.

Rounding errors are as large as their steps and have no structure. A factor, an amount added, an adapter that was not
merged may be smaller than the errors of a single weight, and still shows in the sum over all of them. The laws and
the limits: docs/noise.md, "Structure beneath the noise".

Letters: R = rows, C = columns, e = difference of the coarser copy from the finer one, w = the finer copy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rosetta.compare.float_roundings import of_floats
from rosetta.compare.row_laws import of_rows, row_factors, some_rows
from rosetta.compare.row_sums import RowSums
from rosetta.compare.structure_sample import COMPENSATING, SampleTests, is_coarser
from rosetta.compare.trait import (
    CODEBOOKS,
    DEVIATIONS,
    LEAST,
    Trait,
    largest_shrinkage,
)
from rosetta.dtypes import FLOATS, of_scheme
from rosetta.weight import Weight

# Mean of the errors in units of their rms: an encoder with a minimum is biased by up to 0.04 over a tensor.
MEAN = 0.12
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

SCALE_ROUNDING = 2e-3  # of a block's scale, a float16 or six bits of one: of equal rows all the same


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
        *row_factors(coarse, fine, rows, weighed, given_up),
        *of_rows(coarse, fine, rows, columns),
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
    w = fine.rows(some_rows(coarse).tolist())
    if len(torch.unique(w.abs())) > EIGHT_BITS:
        return 0.0
    return math.sqrt(3) * float(of_floats(w, (coarse, fine)).sum()) / float(w.double().square().sum())
