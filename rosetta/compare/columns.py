"""What the errors of some rows tell of columns: factors and amounts of their own.

Letters: R = rows, C = columns, e = difference of the coarser copy from the finer one, w = the finer copy, z = e / σ,
u = w / σ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.blocks.fields import SQRT12
from rosetta.compare.chance import limit_of_all
from rosetta.compare.float_roundings import of_floats
from rosetta.compare.sample_loops import SampleLoops
from rosetta.compare.sampled_rows import Rows
from rosetta.compare.trait import (
    CODEBOOKS,
    FITTED_DEVIATIONS,
    LEAST,
    ROW_DEVIATIONS,
    TABLES,
    Trait,
    largest_shrinkage,
)
from rosetta.dtypes import FLOATS, of_scheme
from rosetta.weight import Weight

# By how much κ differs from column to column of a clean copy, of codes that are taken for one weight and for several
# (measured: 0.75, where importance was too mild for blocks to tell; 0.8). More by OF_LOUD where a column makes up its
# block, of what it has beyond LOUD times an even share (0.98): the search for a scale makes its own error small.
SHRINKAGE_APART, OF_CODEBOOKS, OF_LOUD, LOUD = 0.9, 1.0, 1.2, 2.0
# Where errors were weighed, of the largest κ, in units of each column's own D (measured: 1.2, Q2_K).
OF_LARGEST = 1.5
# Relative: a float16 scale is off by no more, and of a loud column by the same in many blocks.
OF_SCALES = 2.0**-11
LOOKED_AT = 0.75  # of the limits, from where on columns are told row by row: sizes say up to a fifth less
# Of all columns' squared errors, what a factor of each explains at least of a table: many of its rows are nearly equal.
COHERENT = 0.2
# Mean of a column's errors in units of their rms.
COLUMN_MEAN = 0.7


@dataclass(frozen=True)
class ColumnSums:
    """Sums over so many rows of each column, float32 [C].

    An error has nothing to do with its weight where the weight is more than a step: a smaller one may be rounded to
    nought, and is then off by all of itself. Sums that have to do with both are of the wide ones.

    Args:
        rows: how many there are.
        wide: of these, how many have a weight of more than a step.
        size, error, product: Σ u², Σ z² and Σ z·u of the wide ones.
        fitted: Σ u² · D of the block, see `_distances`, of the wide ones.
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
    def of(piece: Rows, group: int, loops: SampleLoops | None = None) -> ColumnSums:
        if loops is not None:
            found = loops.column_sums(piece.fine, piece.coarse, piece.variance, SQRT12, group)
            return ColumnSums(len(piece.fine), *found)
        z, u, _ = piece.in_sigmas()
        wide, squared, squares = _wide(u), z * z, u.square()
        ratio, weights = _distances(squared, squares, group), squares.sum(0)
        product = (u.mul_(z).mul_(wide)).sum(0)
        size = squares.mul_(wide).sum(0)
        return ColumnSums(
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
    def joined(parts: Sequence[ColumnSums]) -> ColumnSums:
        names = [name for name in ColumnSums.__dataclass_fields__ if name != "rows"]
        sums = (torch.stack([getattr(part, name) for part in parts]).sum(0) for name in names)
        return ColumnSums(sum(part.rows for part in parts), *sums)


def factors_of_columns(
    sums: ColumnSums, rows: Callable[[], Rows], fine: Weight, coarse: Weight, weighed: bool
) -> list[Trait]:
    """Factors of columns: how far Σ z·u of each strays from what the encoder's shrinkage makes of its error.

    The sizes say how far it may if errors have nothing to do with those of weights; what strays farther is looked
    at again, row by row.

    Args:
        sums: of some rows.
        rows: gives them.
        fine, coarse: the copies.
        weighed: whether the encoder weighed some columns' errors more than others'.
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
        for apart in _apart(sums, fine, coarse, weighed)
    )
    # −κ of all, by the inverse of what chance and these differences make of each column's.
    precision = (fitted / deviation).square() / (1 + by_block)
    common = float((precision * product / fitted).sum() / precision.sum())
    strays = (product - common * fitted) / deviation
    of_one = ROW_DEVIATIONS * (1 + by_block).sqrt()
    differing = min(float(by_block.mean()), float(by_own.mean()))
    of_all = limit_of_all(float(wide.min()) - 1, len(judged), differing)
    if not has_independent_errors(fine, coarse):
        of_all = max(of_all, FITTED_DEVIATIONS)
    farthest, all_of_them = float((strays.abs() / of_one).max()), float(strays.square().mean().sqrt())
    if farthest <= LOOKED_AT and all_of_them <= LOOKED_AT * of_all:
        return []
    if coarse.name in TABLES and float((strays.square() / wide).mean()) <= COHERENT:
        return []
    strays = _strays(rows().unlike(), judged, common, (coarse, fine))
    farthest, all_of_them = int((strays.abs() / of_one).argmax()), float(strays.square().mean().sqrt())
    if abs(float(strays[farthest])) > float(of_one[farthest]):
        return [Trait("column_factors", abs(float(strays[farthest])), float(of_one[farthest]))]
    return [Trait("column_factors", all_of_them, of_all)] if all_of_them > of_all else []


def amounts_of_columns(sums: ColumnSums, coarser: float) -> list[Trait]:
    """The mean of a column's errors, where it is far more than chance leaves."""
    mean = (sums.mean / (sums.all_errors * sums.rows).sqrt().clamp(min=1e-30)).abs()
    worst, limit = float(mean.max()), min(0.95, COLUMN_MEAN * coarser)
    if worst > limit and worst * math.sqrt(sums.rows) > ROW_DEVIATIONS:
        return [Trait("column_offsets", worst, limit)]
    return []


def group_of_columns(coarse: Weight) -> int:
    """Columns that share a scale; 1 where these fill no rows."""
    group = blocks.group_of(coarse.dtype)
    return 1 if coarse.dims[1] % group else group


def has_independent_errors(fine: Weight, coarse: Weight) -> bool:
    """Whether the errors of a clean copy have nothing to do with each other: a scheme may round scales after codes
    were made, and what was fitted to the other copy leaves errors that hang together."""
    return not any(of_scheme(weight.dtype) or weight.fitted for weight in (fine, coarse))


def _apart(sums: ColumnSums, fine: Weight, coarse: Weight, weighed: bool) -> tuple[Tensor, Tensor]:
    """By how much Σ z·u of columns may differ as κ does, by D of their blocks and by their own, float64 [C] each.

    Where errors were weighed κ lies between nought, of what matters, and the largest one, of what does not: no
    farther than half of that from their mean in units of the block's D. What matters has small errors, so that one
    column may be far off by its own D; all of them hold both.
    """
    fitted, error = sums.fitted.double(), sums.error.double()
    of_blocks = fitted.view(-1, group_of_columns(coarse))
    loud = (of_blocks - LOUD * of_blocks.mean(1, keepdim=True)).clamp(min=0).flatten()
    if weighed:
        quantised = (weight.dtype for weight in (fine, coarse) if weight.dtype not in FLOATS)
        largest = max(map(largest_shrinkage, quantised), default=SHRINKAGE_APART)
        by_block, by_own = largest / 2 * fitted, OF_LARGEST * largest * error + largest / 2 * loud
    else:
        apart = OF_CODEBOOKS if coarse.dtype in CODEBOOKS else SHRINKAGE_APART
        by_block, by_own = apart * fitted + OF_LOUD * loud, apart * error + OF_LOUD * loud
    return by_block, by_own


def _wide(u: Tensor) -> Tensor:
    """1 where a weight is more than a step, which is in units of σ, else 0."""
    return u.abs().ge_(SQRT12)


def _distances(errors: Tensor, weights: Tensor, group: int) -> Tensor:
    """D of each block: the sum of its squared errors by that of its squared weights, [rows, C] -> [rows, C / group].

    An encoder's scale is fitted to a block, so that each of its weights shrinks by κ·D of the block: one that is larger
    than its neighbours by what the errors of them all come to, not by its own.
    """
    error, size = (x.view(len(x), -1, group).sum(-1) for x in (errors, weights))
    return error / size.clamp(min=1e-30)


def _strays(rows: Rows, columns: Tensor, common: float, copies: tuple[Weight, Weight]) -> Tensor:
    """How many standard deviations Σ z·u of the wide ones strays from the common multiple of what their blocks were
    fitted by, float32 [n]: rows have nothing to do with each other, so that their own say what chance leaves,
    but that their roundings to floats may be one (`of_floats`).

    Args:
        rows: those looked at.
        columns: those judged, [n].
        common: the multiple.
        copies: the coarser and the finer one.
    """
    group = group_of_columns(copies[0])
    z, u, inverse = rows.in_sigmas()
    squares = u.square()
    shrunk = _distances(z.square(), squares, group).repeat_interleave(group, dim=1) * squares
    of_rows = ((z * u - common * shrunk) * _wide(u))[:, columns]
    together = (of_floats(rows.fine, copies) * inverse.square() * _wide(u))[:, columns].sum(0).float()
    strays: Tensor = of_rows.sum(0) / torch.hypot(torch.linalg.vector_norm(of_rows, dim=0), together).clamp(
        min=1e-30
    )
    return strays
