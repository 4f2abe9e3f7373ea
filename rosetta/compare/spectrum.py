"""The largest singular value of a matrix of errors: random ones have √R + √C and no more.

Letters: R = rows, C = columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOSTLY = 0.1  # of a row: equal values, taken by a repair, leave too few errors to scale the row by
CLIPPED = 4.0  # standard deviations: a single wild error is no rank
STEPS, MORE_STEPS = 6, 14  # of bidiagonalisation; more where the first ones come near the edge
NEAR = 0.97  # of √R + √C


def beyond_noise(e: Tensor, w: Tensor, slope: Tensor, variance: Tensor) -> Tensor:
    """Errors as unlike noise as they can be made like it: each of unit variance, none a multiple of its weight.

    What an encoder takes from the size of a column's or a row's weights is its way of rounding and no fault here;
    of trained weights it would have their rank.

    Args:
        e: differences, [R, C].
        w: the finer copy, [R, C].
        slope: Σ e·w / Σ w² of each column, [C].
        variance: of each difference, as the dtypes explain it, [R, C].
    """
    kept = (e == 0).sum(1) <= MOSTLY * e.shape[1]
    e, w, variance = e[kept], w[kept], variance[kept]
    z = e - slope * w
    z -= (torch.linalg.vecdot(z, w) / torch.linalg.vecdot(w, w).clamp(min=1e-30))[:, None] * w
    z *= variance.clamp(min=1e-30).rsqrt()
    z[e == 0] = 0.0  # of a value taken from the other side there is no error, and hardly a variance
    z -= z.mean(0)
    z /= z.square().mean(0).sqrt().clamp(min=1e-20)
    z /= torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp(min=1e-20) / math.sqrt(z.shape[1])
    z.clamp_(-CLIPPED, CLIPPED)
    return z


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
