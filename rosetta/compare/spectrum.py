"""The largest singular value of a matrix of errors: random ones have √R + √C and no more.

Letters: R = rows, C = columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rosetta.compare.sample_loops import SampleLoops

MOSTLY = 0.1  # of a row: equal values, taken by a repair, leave too few errors to scale the row by
CLIPPED = 4.0  # standard deviations: a single wild error is no rank
# k columns of a block to which alone its scale and its minimum were fitted keep k − 2 of k parts of their squared
# error, and their errors hang together: of unit variance each, they have k − 2 directions of k / (k − 2). What is no
# larger than 1 + √(C/R) does not rise above independent errors (Baik, Ben Arous and Péché 2005): from six columns on.
SPARED = 4 / 6
STEPS, MORE_STEPS = 6, 14  # of bidiagonalisation; more where the first ones come near the edge
# Of the largest of the diagonal: rounding, which points anywhere once it is made of unit length.
NOTHING = 1e-6
NEAR = 0.97  # of √R + √C
RANK = 0.02  # of √R + √C, above what a matrix of independent errors has as its largest singular value


def beyond_noise(
    z: Tensor, u: Tensor, inverse: Tensor, group: int, loops: SampleLoops | None = None
) -> Tensor:
    """Errors as unlike noise as they can be made like it: each of unit variance, none a multiple of its weight.

    An encoder gives each block of a row a scale and a minimum of its own, fitted to what matters in it: the errors of a
    block share an amount and a multiple of the weights, which is no fault and would pass for the rank of many small
    ones. The same goes for what it takes from the size of columns and rows. Columns that a block's scale was fitted to
    alone, those of channels that matter most, are left out: two that share one scale are off together. So are columns
    whose weights are smaller than the rounding: each has the level of its block that is nearest to nought, and two of
    one block have one error. (The columns that read a massive channel are such: what they are multiplied by is large.)

    Args:
        z: differences over their predicted σ, [R, C].
        u: the finer copy over that σ, [R, C].
        inverse: 1 / σ, [R, C].
        group: weights of a block.
        loops: compiled ones, for errors of which no column is left out.
    """
    equal = None
    if int(z.count_nonzero()) < z.numel():
        equal = z == 0
        kept = equal.sum(1) <= MOSTLY * z.shape[1]
        if not bool(kept.all()):
            z, u, inverse, equal = z[kept], u[kept], inverse[kept], equal[kept]
    size = u.square().sum(0)
    independent = _independent(z, group) & (size >= len(u))
    if loops is not None and not z.shape[1] % group and bool(independent.all()):
        return loops.like_noise(z, u, inverse, equal, group, CLIPPED)
    z = without_block_fit(z, u, inverse, group)
    z.addcmul_(u, (z * u).sum(0) / size.clamp(min=1e-30), value=-1)
    z.addcmul_(u, (z * u).sum(1, keepdim=True) / u.square().sum(1, keepdim=True).clamp(min=1e-30), value=-1)
    if equal is not None:  # of a value taken from the other side there is no error, and hardly a variance
        z.masked_fill_(equal, 0.0)
    if not bool(independent.all()):
        z = z[:, independent]
    z -= z.mean(0)
    z /= _size(z, 0).clamp(min=1e-20) / math.sqrt(len(z))
    z /= _size(z, 1).clamp(min=1e-20) / math.sqrt(z.shape[1])
    return z.clamp_(-CLIPPED, CLIPPED)


def with_errors_of_their_own(z: Tensor, u: Tensor, inverse: Tensor, group: int) -> Tensor:
    """The rows whose errors are more than what is taken from columns puts there, bool [R].

    A row that lies on a grid which the other dtype nearly has is off by next to nothing, or by a multiple of itself.
    An amount and a factor taken from each column leave 2 / R of the mean squared error ē² in each row, which a row as
    large as others had before. Brought to unit variance, k rows of e² and less have 2 (ē² / e² − 1) / R more in
    common, each in C columns: below √(R·C) in all that does not show (Baik, Ben Arous and Péché 2005).

    Args:
        z, u, inverse, group: as for `beyond_noise`.
    """
    left = without_block_fit(z, u, inverse, group)
    left.addcmul_(
        u, (left * u).sum(1, keepdim=True) / u.square().sum(1, keepdim=True).clamp(min=1e-30), value=-1
    )
    errors, order = left.square().mean(1).sort()
    rows, columns = z.shape
    in_common = 2 * torch.arange(1, rows + 1, device=z.device) / rows * math.sqrt(columns / rows)
    kept = errors * (1 + in_common) >= errors.mean() * in_common
    return torch.empty_like(kept).scatter_(0, order, kept)


def _size(x: Tensor, dim: int) -> Tensor:
    """Roots of the sums of squares of rows (dim 1, [R, 1]) or columns (dim 0, [1, C])."""
    return x.square().sum(dim, keepdim=True).sqrt()


def _independent(z: Tensor, group: int) -> Tensor:
    """The columns that no scale was fitted to alone, beside the others of their block, bool [C]."""
    variance = z.square().sum(0)
    whole = len(variance) // group * group
    of_block = variance[:whole].view(-1, group).median(dim=1).values
    if whole < len(variance):  # the last block may be short
        of_block = torch.cat([of_block, variance[whole:].median()[None]])
    return variance >= SPARED * of_block.repeat_interleave(group)[: len(variance)]


def without_block_fit(z: Tensor, u: Tensor, inverse: Tensor, group: int) -> Tensor:
    """Errors less what an amount and a factor of each block explain by least squares, [R, C].

    Args:
        z, u, inverse, group: as for `beyond_noise`.
    """
    columns = z.shape[1]
    if columns % group:
        z, u, inverse = (torch.nn.functional.pad(x, (0, -columns % group)) for x in (z, u, inverse))
    rows, width = z.shape
    z, u, one = (x.reshape(-1, group) for x in (z, u, inverse))
    one = one / _size(one, 1).clamp(min=1e-20)
    u = torch.addcmul(u, _products(u, one), one, value=-1)
    u /= _size(u, 1).clamp(min=1e-20)
    z = torch.addcmul(z, _products(z, one), one, value=-1)
    z.addcmul_(_products(z, u), u, value=-1)
    return z.view(rows, width)[:, :columns]


def _products(x: Tensor, y: Tensor) -> Tensor:
    """Σ x·y of each row, [R, 1]."""
    return (x * y) @ x.new_ones(x.shape[1], 1)


def edge_of(rows: int, columns: int, variance: float) -> float:
    """The largest singular value of a matrix of independent errors (Geman 1980)."""
    return math.sqrt(variance) * (math.sqrt(rows) + math.sqrt(columns))


def largest_singular_value(z: Tensor, loops: SampleLoops | None = None) -> float:
    """The largest singular value of a matrix in units of (√R + √C) × its rms, from below: by Golub and Kahan's
    bidiagonalisation from a random vector, all vectors kept orthogonal.

    Args:
        z: float32 [R, C].
        loops: compiled ones.
    """
    rows, columns = z.shape
    unit = edge_of(rows, columns, float(z.square().mean()))
    if not unit or not math.isfinite(unit):
        return 0.0
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(columns, generator=generator).to(z)
    vectors = z.new_empty(MORE_STEPS, rows), z.new_empty(MORE_STEPS + 1, columns)
    vectors[1][0] = v / v.norm()
    diagonals = z.new_empty(MORE_STEPS), z.new_empty(MORE_STEPS)
    bidiagonalise = _bidiagonal if loops is None else loops.bidiagonal
    found, made = 0.0, 0
    for last in (STEPS, MORE_STEPS):
        made = bidiagonalise(z, vectors, diagonals, made, last, NOTHING)
        alphas, betas = (x[:made].cpu() for x in diagonals)
        bidiagonal = torch.diag(alphas) + torch.diag(betas[:-1], 1)
        found = float(torch.linalg.matrix_norm(bidiagonal, 2)) / unit
        if made < last or found < NEAR:
            break
    return found


def _bidiagonal(
    z: Tensor,
    vectors: tuple[Tensor, Tensor],
    found: tuple[Tensor, Tensor],
    first: int,
    last: int,
    nothing: float,
) -> int:
    """Steps `first` to before `last` of it, and how many there are then: fewer than `last` where nothing is left.

    Args:
        z: float32 [R, C].
        vectors: [n, R] and [n + 1, C], of which the latter has the next one.
        found: take the diagonal and the one above it, [n].
        first, last: the steps.
        nothing: what is left, of the largest of the diagonal, where it is no more than rounding.
    """
    (lefts, rights), (alphas, betas) = vectors, found
    least = nothing * float(alphas[:first].max()) if first else 0.0
    for step in range(first, last):
        u = _orthogonal(z @ rights[step], lefts[:step])
        alphas[step] = u.norm()
        if float(alphas[step]) <= least:
            return step + 1
        least = max(least, nothing * float(alphas[step]))
        lefts[step] = u / alphas[step]
        v = _orthogonal(z.T @ lefts[step], rights[: step + 1])
        betas[step] = v.norm()
        if float(betas[step]) <= least:
            return step + 1
        rights[step + 1] = v / betas[step]
    return last


def _orthogonal(x: Tensor, others: Tensor) -> Tensor:
    """A vector less its parts along others, [n, length], which are orthogonal and of unit length; once more for their
    rounding."""
    for _ in range(2 if len(others) else 0):
        x = x - (others @ x) @ others
    return x


def rank_limit(rows: int, columns: int) -> float:
    """The largest singular value of clean errors in units of √R + √C: 1 (Geman 1980), and what small matrices
    fluctuate by (Johnstone 2001, eq. 1.2: the largest squared one by (√R + √C)(1/√R + 1/√C)^⅓)."""
    edge = math.sqrt(rows) + math.sqrt(columns)
    fluctuation = edge * (1 / math.sqrt(rows) + 1 / math.sqrt(columns)) ** (1 / 3)
    return math.sqrt(1 + 5 * fluctuation / edge**2) + RANK
