"""The largest singular value of a matrix of errors: random ones have √R + √C and no more.

Letters: R = rows, C = columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOSTLY = 0.1  # of a row: equal values, taken by a repair, leave too few errors to scale the row by
CLIPPED = 4.0  # standard deviations: a single wild error is no rank
# k columns of a block to which alone its scale and its minimum were fitted keep k − 2 of k parts of their squared
# error, and their errors hang together: of unit variance each, they have k − 2 directions of k / (k − 2). What is no
# larger than 1 + √(C/R) does not rise above independent errors (Baik, Ben Arous and Péché 2005): from six columns on.
SPARED = 4 / 6
STEPS, MORE_STEPS = 6, 14  # of bidiagonalisation; more where the first ones come near the edge
NEAR = 0.97  # of √R + √C
RANK = 0.02  # of √R + √C, above what a matrix of independent errors has as its largest singular value


def beyond_noise(z: Tensor, u: Tensor, inverse: Tensor, group: int) -> Tensor:
    """Errors as unlike noise as they can be made like it: each of unit variance, none a multiple of its weight.

    An encoder gives each block of a row a scale and a minimum of its own, fitted to what matters in it: the errors of a
    block share an amount and a multiple of the weights, which is no fault and would pass for the rank of many small
    ones. The same goes for what it takes from the size of columns and rows. Columns that a block's scale was fitted to
    alone, those of channels that matter most, are left out: two that share one scale are off together.

    Args:
        z: differences over their predicted σ, [R, C].
        u: the finer copy over that σ, [R, C].
        inverse: 1 / σ, [R, C].
        group: weights of a block.
    """
    kept = (z == 0).sum(1) <= MOSTLY * z.shape[1]
    z, u, equal = z[kept], u[kept], z[kept] == 0
    independent = _independent(z, group)
    z = without_block_fit(z, u, inverse[kept], group)
    z = z - u * ((z * u).sum(0) / u.square().sum(0).clamp(min=1e-30))
    z -= (torch.linalg.vecdot(z, u) / torch.linalg.vecdot(u, u).clamp(min=1e-30))[:, None] * u
    z[equal] = 0.0  # of a value taken from the other side there is no error, and hardly a variance
    z = z[:, independent]
    z -= z.mean(0)
    z /= z.square().mean(0).sqrt().clamp(min=1e-20)
    z /= torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp(min=1e-20) / math.sqrt(z.shape[1])
    z.clamp_(-CLIPPED, CLIPPED)
    return z


def _independent(z: Tensor, group: int) -> Tensor:
    """The columns that no scale was fitted to alone, beside the others of their block, bool [C]."""
    variance = z.square().mean(0)
    of_block = torch.stack([part.median() for part in torch.split(variance, group)])
    return variance >= SPARED * of_block.repeat_interleave(group)[: len(variance)]


def without_block_fit(z: Tensor, u: Tensor, inverse: Tensor, group: int) -> Tensor:
    """Errors less what an amount and a factor of each block explain by least squares, [R, C].

    Args:
        z, u, inverse, group: as for `beyond_noise`.
    """
    columns = z.shape[1]
    if columns % group:
        z, u, inverse = (torch.nn.functional.pad(x, (0, -columns % group)) for x in (z, u, inverse))
    z, u, one = (x.reshape(len(x), -1, group) for x in (z, u, inverse))
    one = one / torch.linalg.vector_norm(one, dim=-1, keepdim=True).clamp(min=1e-20)
    u = u - torch.linalg.vecdot(u, one)[..., None] * one
    u /= torch.linalg.vector_norm(u, dim=-1, keepdim=True).clamp(min=1e-20)
    z = z - torch.linalg.vecdot(z, one)[..., None] * one
    z -= torch.linalg.vecdot(z, u)[..., None] * u
    return z.flatten(1)[:, :columns]


def edge_of(rows: int, columns: int, variance: float) -> float:
    """The largest singular value of a matrix of independent errors (Geman 1980)."""
    return math.sqrt(variance) * (math.sqrt(rows) + math.sqrt(columns))


def largest_singular_value(z: Tensor) -> float:
    """The largest singular value of a matrix in units of (√R + √C) × its rms, from below: by Golub and Kahan's
    bidiagonalisation from a random vector, all vectors kept orthogonal."""
    rows, columns = z.shape
    unit = edge_of(rows, columns, float(z.square().mean()))
    if not unit or not math.isfinite(unit):
        return 0.0
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(columns, generator=generator).to(z)
    rights = [v / v.norm()]
    lefts: list[Tensor] = []
    alphas: list[float] = []
    betas: list[float] = []
    found = 0.0
    for step in range(MORE_STEPS):
        u = _orthogonal(z @ rights[-1], lefts)
        alphas.append(float(u.norm()))
        lefts.append(u / max(alphas[-1], 1e-30))
        v = _orthogonal(z.T @ lefts[-1], rights)
        betas.append(float(v.norm()))
        bidiagonal = torch.diag(torch.tensor(alphas)) + torch.diag(torch.tensor(betas[:-1]), 1)
        found = float(torch.linalg.matrix_norm(bidiagonal, 2)) / unit
        if betas[-1] < 1e-12 or (step + 1 == STEPS and found < NEAR):
            break
        rights.append(v / betas[-1])
    return found


def _orthogonal(x: Tensor, others: list[Tensor]) -> Tensor:
    """A vector less its parts along others, which are orthogonal and of unit length."""
    for other in others:
        x = x - other * (other @ x)
    return x


def rank_limit(rows: int, columns: int) -> float:
    """The largest singular value of clean errors in units of √R + √C: 1 (Geman 1980), and what small matrices
    fluctuate by (Johnstone 2001, eq. 1.2: the largest squared one by (√R + √C)(1/√R + 1/√C)^⅓)."""
    edge = math.sqrt(rows) + math.sqrt(columns)
    fluctuation = edge * (1 / math.sqrt(rows) + 1 / math.sqrt(columns)) ** (1 / 3)
    return math.sqrt(1 + 5 * fluctuation / edge**2) + RANK
