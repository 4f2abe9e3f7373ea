"""What the errors of some rows tell of columns and of rank, in a few passes while a row lies in a core's cache.
Compiled by numba, which this module must not be imported without.

What is worked out is what `compare.structure_sample` and `compare.spectrum` do with torch, in float32 as there. A loop
writes two arrays at most: of more the compiler does not see that they lie apart, and looks for no vectors.
Letters: R = rows, C = columns, e = difference of the coarser copy from the finer one, w = the finer copy, z = e / σ,
u = w / σ.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from rosetta.kernels.arithmetic import dot, exact, summing

Floats = NDArray[np.float32]

NONE, ONE = np.float32(0), np.float32(1)
LEAST_VARIANCE, LEAST_SIZE, LEAST_ROOT = np.float32(1e-30), np.float32(1e-30), np.float32(1e-20)
COLUMNS_AT_ONCE = 512  # whose sums stay in a core's first cache


def column_sums(
    fine: Floats,
    coarse: Floats,
    variance: Floats,
    wide: np.float32,
    group: int,
    memory: Floats,
    sums: Floats,
) -> None:
    """Sums over some rows, of which those of wide weights are of weights beyond `wide` times σ.

    Args:
        fine, coarse, variance: float32 [R, C].
        wide: from which |u| on a weight is.
        group: weights of a block, of which a row has a whole number.
        memory: float32 [3, C].
        sums: takes how many are wide, Σ u², Σ z², Σ z·u, Σ u² · D of the block of these, then Σ z, Σ z², Σ u² of all,
            float32 [8, C].
    """
    rows, columns = fine.shape
    sums[:, :] = NONE
    at_once = max(1, COLUMNS_AT_ONCE // group) * group
    for start in range(0, columns, at_once):
        some = slice(start, min(start + at_once, columns))
        z, u, inverse = memory[0, some], memory[1, some], memory[2, some]
        for r in range(rows):
            _invert(variance[r, some], inverse)
            _scale(fine[r, some], coarse[r, some], inverse, z, u)
            _add_all(z, sums[5, some], sums[6, some])
            _add_weights(u, wide, sums[0, some], sums[7, some])
            _add_wide(z, u, wide, sums[2, some], sums[3, some])
            _add_wide_size(u, wide, sums[1, some])
            _add_fitted(z, u, wide, group, sums[4, some])


def like_noise(
    z: Floats,
    u: Floats,
    inverse: Floats,
    equal: NDArray[np.bool_],
    group: int,
    clipped: np.float32,
    memory: Floats,
) -> None:
    """Make errors as like noise as they can be made: see `spectrum.beyond_noise`.

    Args:
        z: float32 [R, C], changed in place.
        u, inverse: float32 [R, C].
        equal: where there is no error, [R, C]; nothing where there is one everywhere.
        group: weights of a block, of which a row has a whole number.
        clipped: the largest magnitude that is left.
        memory: float32 [4, C].
    """
    rows, columns = z.shape
    size, product, part, mean = memory[0], memory[1], memory[2], memory[3]
    memory[:, :] = NONE
    shape = columns // group, group
    for r in range(rows):
        _fit_blocks(z[r].reshape(shape), u[r].reshape(shape), inverse[r].reshape(shape), part)
        _add_products(z[r], u[r], product, size)
    for c in range(columns):
        part[c] = product[c] / max(size[c], LEAST_SIZE)
    for r in range(rows):
        _take_multiple(z[r], u[r], part)
        if equal.shape[0]:
            _clear(z[r], equal[r])
        _add_to(z[r], mean)
    for c in range(columns):
        mean[c] /= np.float32(rows)
        size[c] = NONE
    for r in range(rows):
        _take_mean(z[r], mean, size)
    for c in range(columns):
        part[c] = ONE / (max(np.float32(math.sqrt(size[c])), LEAST_ROOT) / np.float32(math.sqrt(rows)))
    for r in range(rows):
        _scale_and_clip(z[r], part, clipped)


def bidiagonal(
    z: Floats,
    lefts: Floats,
    rights: Floats,
    alphas: Floats,
    betas: Floats,
    first: int,
    last: int,
    nothing: np.float32,
) -> int:
    """Steps of Golub and Kahan's bidiagonalisation, all vectors kept orthogonal.

    Args:
        z: float32 [R, C].
        lefts, rights: vectors, float32 [n, R] and [n + 1, C], of which `rights` has the next one.
        alphas, betas: take the diagonal and the one above it, float32 [n].
        first, last: the steps that are made, but for the last.
        nothing: what is left, of the largest of the diagonal, where it is no more than rounding.

    Returns:
        How many there are now; fewer than `last` where nothing is left.
    """
    least = NONE
    for step in range(first):
        least = max(least, nothing * alphas[step])
    for step in range(first, last):
        u = lefts[step]
        _multiply(z, rights[step], u)
        _make_orthogonal(u, lefts, step)
        alphas[step] = np.float32(math.sqrt(dot(u, u)))
        if alphas[step] <= least:
            return step + 1
        least = max(least, nothing * alphas[step])
        _divide(u, alphas[step])
        v = rights[step + 1]
        _multiply_turned(z, u, v)
        _make_orthogonal(v, rights, step + 1)
        betas[step] = np.float32(math.sqrt(dot(v, v)))
        if betas[step] <= least:
            return step + 1
        _divide(v, betas[step])
    return last


@exact
def _invert(variance: Floats, inverse: Floats) -> None:
    for j in range(variance.shape[0]):
        inverse[j] = ONE / np.float32(math.sqrt(max(variance[j], LEAST_VARIANCE)))


@exact
def _scale(fine: Floats, coarse: Floats, inverse: Floats, z: Floats, u: Floats) -> None:
    for j in range(fine.shape[0]):
        z[j] = (coarse[j] - fine[j]) * inverse[j]
    for j in range(fine.shape[0]):
        u[j] = fine[j] * inverse[j]


@exact
def _add_all(z: Floats, mean: Floats, errors: Floats) -> None:
    for j in range(z.shape[0]):
        mean[j] += z[j]
        errors[j] += z[j] * z[j]


@exact
def _add_weights(u: Floats, least: np.float32, wide: Floats, weights: Floats) -> None:
    for j in range(u.shape[0]):
        wide[j] += ONE if abs(u[j]) >= least else NONE
        weights[j] += u[j] * u[j]


@exact
def _add_wide(z: Floats, u: Floats, least: np.float32, error: Floats, product: Floats) -> None:
    for j in range(u.shape[0]):
        wide = ONE if abs(u[j]) >= least else NONE
        error[j] += wide * (z[j] * z[j])
        product[j] += z[j] * (u[j] * wide)


@exact
def _add_wide_size(u: Floats, least: np.float32, size: Floats) -> None:
    for j in range(u.shape[0]):
        wide = u[j] * (ONE if abs(u[j]) >= least else NONE)
        size[j] += wide * wide


@exact
def _add_fitted(z: Floats, u: Floats, least: np.float32, group: int, fitted: Floats) -> None:
    for start in range(0, z.shape[0], group):
        block = slice(start, start + group)
        _add_fitted_block(z[block], u[block], least, fitted[block])


@summing
def _add_fitted_block(z: Floats, u: Floats, least: np.float32, fitted: Floats) -> None:
    error = size = NONE
    for j in range(z.shape[0]):
        error += z[j] * z[j]
        size += u[j] * u[j]
    ratio = error / max(size, LEAST_SIZE)
    for j in range(z.shape[0]):
        wide = u[j] * (ONE if abs(u[j]) >= least else NONE)
        fitted[j] += ratio * (wide * wide)


@exact
def _fit_blocks(z: Any, u: Any, inverse: Any, memory: Floats) -> None:
    """Take from the errors of each block what an amount and a factor explain by least squares."""
    rest = memory[: z.shape[1]]
    for n in range(z.shape[0]):
        _fit_block(z[n], u[n], inverse[n], rest)


@summing
def _fit_block(z: Floats, u: Floats, inverse: Floats, rest: Floats) -> None:
    size = of_u = of_z = NONE
    for j in range(z.shape[0]):
        size += inverse[j] * inverse[j]
        of_u += u[j] * inverse[j]
        of_z += z[j] * inverse[j]
    root = max(np.float32(math.sqrt(size)), LEAST_ROOT)
    of_u, of_z = of_u / root / root, of_z / root / root
    size = product = NONE
    for j in range(z.shape[0]):
        left = u[j] - of_u * inverse[j]
        rest[j] = left
        size += left * left
    for j in range(z.shape[0]):
        error = z[j] - of_z * inverse[j]
        z[j] = error
        product += error * rest[j]
    root = max(np.float32(math.sqrt(size)), LEAST_ROOT)
    product = product / root / root
    for j in range(z.shape[0]):
        z[j] -= product * rest[j]


@exact
def _add_products(z: Floats, u: Floats, product: Floats, size: Floats) -> None:
    for j in range(z.shape[0]):
        product[j] += z[j] * u[j]
        size[j] += u[j] * u[j]


@summing
def _take_multiple(z: Floats, u: Floats, part: Floats) -> None:
    """Take from the errors of a row what is a multiple of its weights, by column and by row."""
    product = size = NONE
    for j in range(z.shape[0]):
        error = z[j] - u[j] * part[j]
        z[j] = error
        product += error * u[j]
        size += u[j] * u[j]
    factor = product / max(size, LEAST_SIZE)
    for j in range(z.shape[0]):
        z[j] -= u[j] * factor


@exact
def _clear(z: Floats, equal: Any) -> None:
    for j in range(z.shape[0]):
        z[j] = NONE if equal[j] else z[j]


@exact
def _add_to(z: Floats, sums: Floats) -> None:
    for j in range(z.shape[0]):
        sums[j] += z[j]


@exact
def _take_mean(z: Floats, mean: Floats, size: Floats) -> None:
    for j in range(z.shape[0]):
        error = z[j] - mean[j]
        z[j] = error
        size[j] += error * error


@summing
def _scale_and_clip(z: Floats, scale: Floats, clipped: np.float32) -> None:
    size = NONE
    for j in range(z.shape[0]):
        error = z[j] * scale[j]
        z[j] = error
        size += error * error
    of_row = ONE / (max(np.float32(math.sqrt(size)), LEAST_ROOT) / np.float32(math.sqrt(z.shape[0])))
    for j in range(z.shape[0]):
        error = z[j] * of_row
        error = clipped if error > clipped else error  # NaN stays what it is
        z[j] = -clipped if error < -clipped else error


@exact
def _multiply(z: Floats, v: Floats, out: Floats) -> None:
    for r in range(z.shape[0]):
        out[r] = dot(z[r], v)


@exact
def _multiply_turned(z: Floats, u: Floats, out: Floats) -> None:
    out[:] = NONE
    for r in range(z.shape[0]):
        _add_multiple(z[r], u[r], out)


@exact
def _make_orthogonal(x: Floats, others: Floats, count: int) -> None:
    """Take from a vector its parts along others; once more for their rounding."""
    for _ in range(2):
        for n in range(count):
            _add_multiple(others[n], -dot(others[n], x), x)


@exact
def _add_multiple(x: Floats, factor: np.float32, to: Floats) -> None:
    for j in range(x.shape[0]):
        to[j] += factor * x[j]


@exact
def _divide(x: Floats, by: np.float32) -> None:
    for j in range(x.shape[0]):
        x[j] /= by


_matrix, _vector = types.float32[:, ::1], types.float32[::1]
COLUMN_SUMS = types.void(_matrix, _matrix, _matrix, types.float32, types.int64, _matrix, _matrix)
LIKE_NOISE = types.void(_matrix, _matrix, _matrix, types.boolean[:, ::1], types.int64, types.float32, _matrix)
BIDIAGONAL = types.int64(_matrix, _matrix, _matrix, _vector, _vector, types.int64, types.int64, types.float32)
"""Of the functions above."""
