"""Two copies of a matrix in one pass: a few rows at a time are decoded, held against each other and multiplied with
while they lie in a core's cache. Compiled by numba, which this module must not be imported without.

What a format's scales, minima and rounding are is worked out in `rosetta.blocks` and given to it; here they meet the
levels. Loops whose length the compiler knows are unrolled before it looks for vectors, so none has one.
Sums may be taken in any order (`reassoc`); NaN and infinite values are what they are in IEEE 754.

Letters: R = rows, C = columns, G = groups of a row, T = tokens, n = blocks of a row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from rosetta.kernels.arithmetic import dot, exact, summing

Floats = NDArray[np.float32]

VALUES, LEVELS, F32, F16, BF16 = range(5)  # what a copy may be given as
EXPONENT, MAGNITUDE = np.int32(0x7F80_0000), np.int32(0x7FFF_FFFF)  # of a float32's bits
NONE, ONE = np.float32(0), np.float32(1)


class Copy(NamedTuple):
    """Some rows of a copy; what its form does not ask for has no rows.

    Args:
        form: one of the above.
        levels: of a quantised dtype, int8 [R, C].
        halves, words: the bits of a float dtype, uint16 or int32 [R, C].
        given: values and their variance, float32 [2, R, C].
        affine: of a quantised dtype, scale, minimum and constant of each group of a row, float32 [3, R, groups]: a
            value is scale · level − minimum, its variance unit · level² + constant.
        unit: of each block, float32 [R, n].
        factor, floor: of a float dtype: a variance is factor · p², p the power of two below the value, and at least
            the floor.
    """

    form: int
    levels: NDArray[np.int8]
    halves: NDArray[np.uint16]
    words: NDArray[np.int32]
    given: Floats
    affine: Floats
    unit: Floats
    factor: np.float32
    floor: np.float32


def one_pass(
    believed: Copy,
    other: Copy,
    group: int,
    proportional: bool,
    start: int,
    x: Floats,
    y: Floats,
    wanted: NDArray[np.int64],
    place: int,
    sample: tuple[Floats, Floats, Floats],
    tile: Floats,
    power: Floats,
    of_groups: Floats,
    of_rows: NDArray[np.float64],
) -> np.int32:
    """Compare some rows of two copies a and b, of which a is believed, and do with them what is wanted.

    Args:
        believed, other: the rows of both.
        group: columns of a group; the last one of a row may be short.
        proportional: whether Σ (a − b)·b and Σ (a − b)²·b² are wanted.
        start: the first row, among all of the matrix.
        x: what is multiplied with a, with b, and with the variance, float32 [k, T, C]; nothing where k is 0.
        y: takes the products, float32 [k, T, all rows].
        wanted: rows that are to be kept, int64 [m], ascending, counted from the first of these.
        place, sample: take these rows of a, b and the variance from their row `place` on, float32 [all, C] each.
        tile: memory for the rows of a, b and the variance that are at hand, float32 [3, so many at a time, C]. Where it
            has room for all rows, they stay there.
        power: memory for a row, float32 [C].
        of_groups: takes the means of (a − b)² and of the variance in each group, float32 [2, R, G].
        of_rows: takes Σ (a − b), Σ a², Σ b², Σ (a − b)·b and Σ (a − b)²·b² of each row, float64 [5, R].

    Returns:
        The bits of the largest magnitude of a, as an int32; NaN's where it has one.
    """
    rows, at_once = of_rows.shape[1], tile.shape[1]
    bits, power_bits = tile.view(np.int32), power.view(np.int32)
    a, b, variance, a_bits, b_bits = tile[0], tile[1], tile[2], bits[0], bits[1]
    next_wanted, largest = 0, np.int32(0)
    for first in range(0, rows, at_once):
        count = min(at_once, rows - first)
        _clear(variance)
        _decode(believed, first, count, a, a_bits, variance, power, power_bits)
        _decode(other, first, count, b, b_bits, variance, power, power_bits)
        _of_groups(tile, first, count, group, of_groups)
        _of_rows(a, b, first, count, proportional, of_rows)
        largest = max(largest, _largest(a_bits, count))
        while next_wanted < wanted.shape[0] and wanted[next_wanted] < first + count:
            for k in range(3):
                _copy_row(tile[k, wanted[next_wanted] - first], sample[k][place + next_wanted])
            next_wanted += 1
        for k in range(x.shape[0]):
            _multiply(x[k], tile[0 if k == 0 else 2 if k == len(x) - 1 else 1], count, y[k], start + first)
    return largest


@exact
def _clear(variance: Floats) -> None:
    for r in range(variance.shape[0]):
        row = variance[r]
        for j in range(row.shape[0]):
            row[j] = NONE


@exact
def _decode(
    copy: Copy,
    first: int,
    count: int,
    values: Floats,
    bits: Any,
    variance: Floats,
    power: Floats,
    power_bits: Any,
) -> None:
    """The values of some rows, whose variance is added to what is there."""
    if copy.form == VALUES:
        for r in range(count):
            _add_given(copy.given[0, first + r], copy.given[1, first + r], values[r], variance[r])
    elif copy.form == LEVELS:
        shape = copy.affine.shape[2], values.shape[1] // copy.affine.shape[2]
        for r in range(count):
            row = first + r
            _add_quantised(
                copy.levels[row].reshape(shape), copy.affine[0, row], copy.affine[1, row], copy.affine[2, row],
                copy.unit[row], shape[0] // copy.unit.shape[1], values[r].reshape(shape), variance[r].reshape(shape),
            )  # fmt: skip
    else:
        for r in range(count):
            if copy.form == F32:
                _take_words(copy.words[first + r], bits[r])
            elif copy.form == BF16:
                _widen(copy.halves[first + r], bits[r])
            else:
                _widen_half(copy.halves[first + r], values[r], bits[r])
            _add_float_variance(bits[r], power, power_bits, copy.factor, copy.floor, variance[r])


@exact
def _copy_row(row: Floats, to: Floats) -> None:
    for j in range(row.shape[0]):
        to[j] = row[j]


@exact
def _add_given(given: Floats, given_variance: Floats, values: Floats, variance: Floats) -> None:
    for j in range(values.shape[0]):
        values[j] = given[j]
        variance[j] += given_variance[j]


@exact
def _take_words(words: Any, bits: Any) -> None:
    for j in range(bits.shape[0]):
        bits[j] = words[j]


@exact
def _widen(halves: Any, bits: Any) -> None:
    """BF16 to float32."""
    for j in range(bits.shape[0]):
        bits[j] = np.int32(halves[j]) << 16


@exact
def _widen_half(halves: Any, values: Floats, bits: Any) -> None:
    """F16 to float32: its exponent is off by 112, which a product puts right for all but Inf and NaN."""
    for j in range(bits.shape[0]):
        bits[j] = np.int32(halves[j] & 0x7FFF) << 13
    for j in range(bits.shape[0]):
        values[j] *= np.float32(2.0**112)
    for j in range(bits.shape[0]):
        special = EXPONENT if halves[j] & 0x7C00 == 0x7C00 else np.int32(0)
        bits[j] |= special | (np.int32(halves[j] & 0x8000) << 16)


@exact
def _add_float_variance(
    bits: Any, power: Floats, power_bits: Any, factor: np.float32, floor: np.float32, variance: Floats
) -> None:
    for j in range(bits.shape[0]):
        power_bits[j] = bits[j] & EXPONENT
    for j in range(bits.shape[0]):
        p = max(power[j], floor)
        variance[j] += (factor * p) * p


@exact
def _add_quantised(
    levels: Any, scale: Floats, minimum: Floats, constant: Floats, unit: Floats, of_block: int, values: Floats,
    variance: Floats,
) -> None:  # fmt: skip
    """Values and variance from levels, [groups of the row, weights of one]; `of_block` groups share a unit."""
    for g in range(levels.shape[0]):
        s, m, c, u = scale[g], minimum[g], constant[g], unit[g // of_block]
        for j in range(levels.shape[1]):
            q = np.float32(levels[g, j])
            values[g, j] = s * q - m
            variance[g, j] += u * (q * q) + c


@exact
def _of_groups(tile: Floats, first: int, count: int, group: int, of_groups: Floats) -> None:
    """Means over the groups of rows; the last group may be short."""
    columns = tile.shape[2]
    whole = columns // group
    full = whole * group
    for r in range(count):
        a, b, v = tile[0, r], tile[1, r], tile[2, r]
        error, explained, shape = of_groups[0, first + r], of_groups[1, first + r], (whole, group)
        _means(a[:full].reshape(shape), b[:full].reshape(shape), v[:full].reshape(shape), error, explained)
        if full < columns:
            shape = (1, columns - full)
            _means(
                a[full:].reshape(shape), b[full:].reshape(shape), v[full:].reshape(shape), error[whole:],
                explained[whole:],
            )  # fmt: skip


@summing
def _means(a: Floats, b: Floats, v: Floats, error: Floats, explained: Floats) -> None:
    part = ONE / np.float32(a.shape[1])
    for g in range(a.shape[0]):
        squares = allowed = NONE
        for j in range(a.shape[1]):
            gap = a[g, j] - b[g, j]
            squares += gap * gap * part
            allowed += v[g, j] * part
        error[g], explained[g] = squares, allowed


@exact
def _of_rows(a: Floats, b: Floats, first: int, count: int, proportional: bool, of_rows: Any) -> None:
    for r in range(count):
        of_rows[0, first + r], of_rows[1, first + r], of_rows[2, first + r] = _of_row(a[r], b[r])
        if proportional:
            of_rows[3, first + r], of_rows[4, first + r] = _of_proportional_row(a[r], b[r])


@summing
def _of_row(a: Floats, b: Floats) -> tuple[float, float, float]:
    gap = size_a = size_b = NONE
    for j in range(a.shape[0]):
        gap += a[j] - b[j]
        size_a += a[j] * a[j]
        size_b += b[j] * b[j]
    return np.float64(gap), np.float64(size_a), np.float64(size_b)


@summing
def _of_proportional_row(a: Floats, b: Floats) -> tuple[float, float]:
    product = spread = NONE
    for j in range(a.shape[0]):
        both = (a[j] - b[j]) * b[j]
        product += both
        spread += both * both
    return np.float64(product), np.float64(spread)


@exact
def _largest(bits: Any, rows: int) -> Any:
    """The bits of the largest magnitude: NaN's are more than those of any number."""
    largest = np.int32(0)
    for r in range(rows):
        row = bits[r]
        for j in range(row.shape[0]):
            largest = max(largest, row[j] & MAGNITUDE)
    return largest


@summing
def _multiply(x: Floats, matrix: Floats, rows: int, out: Floats, start: int) -> None:
    """x Wᵀ, [T, R], into the columns of `out` from `start` on: two rows and four tokens at a time, and the same sums
    in the same order for all copies, so that equal rows have equal products."""
    tokens, columns = x.shape
    for r in range(0, rows - 1, 2):
        w, v, c = matrix[r], matrix[r + 1], start + r
        for t in range(0, tokens - 3, 4):
            p, q, s, u = x[t], x[t + 1], x[t + 2], x[t + 3]
            wp = wq = ws = wu = vp = vq = vs = vu = NONE
            for j in range(columns):
                wp += w[j] * p[j]
                wq += w[j] * q[j]
                ws += w[j] * s[j]
                wu += w[j] * u[j]
                vp += v[j] * p[j]
                vq += v[j] * q[j]
                vs += v[j] * s[j]
                vu += v[j] * u[j]
            out[t, c], out[t + 1, c], out[t + 2, c], out[t + 3, c] = wp, wq, ws, wu
            out[t, c + 1], out[t + 1, c + 1], out[t + 2, c + 1], out[t + 3, c + 1] = vp, vq, vs, vu
        for t in range(tokens // 4 * 4, tokens):
            out[t, c], out[t, c + 1] = dot(x[t], w), dot(x[t], v)
    if rows % 2:
        for t in range(tokens):
            out[t, start + rows - 1] = dot(x[t], matrix[rows - 1])


_planes, _floats = types.float32[:, :, ::1], types.float32[:, ::1]
_copy = types.NamedTuple(
    [types.int64, types.int8[:, ::1], types.uint16[:, ::1], types.int32[:, ::1], _planes, _planes, _floats]
    + [types.float32] * 2,
    Copy,
)
SIGNATURE = types.int32(
    _copy,
    _copy,
    types.int64,
    types.boolean,
    types.int64,
    _planes,
    _planes,
    types.int64[::1],
    types.int64,
    types.UniTuple(_floats, 3),
    _planes,
    types.float32[::1],
    _planes,
    types.float64[:, ::1],
)
"""Of `one_pass`."""
