"""Scales and minimums of blocks that do not belong together: one of both is off by a factor (`value.scaled`).

A weight of such a dtype is a multiple of its block's scale, and of its block's minimum besides. Two numbers for a whole
tensor say what was done to the one and to the other, and are found by least squares: encoders fit both so, block by
block, which leaves errors that have nothing to do with either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from rosetta import blocks
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import for_all_names, reading, sampled_blocks_of
from rosetta.weight import Weight

CERTAIN = 12.0  # standard deviations that the two numbers are apart, each fitted to so many errors
# Relative; or the squared error's part of the squares, which an encoder may shrink weights by.
LEAST_APART = 0.01
LEAST_CORRELATION = 0.8  # as of one factor for all
SMALLEST = 0.02  # of a number: what was multiplied by fifty and more is no more known


@dataclass(frozen=True)
class Halves:
    """Float16 numbers of each block times factors, where they are not one.

    Args:
        dtype: of the blocks.
        factors: of its scale, and of its minimum.
    """

    dtype: str
    factors: tuple[float, float]

    def __call__(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        block, changed = blocks.block_format(self.dtype), data.copy()
        each = changed[: len(data) // block.type_size * block.type_size].reshape(-1, block.type_size)
        for start, factor in zip(block.halves, self.factors, strict=True):
            if factor == 1:
                continue
            half = np.ascontiguousarray(each[:, start : start + 2]).view(np.float16).astype(np.float32)
            with np.errstate(invalid="ignore", over="ignore"):  # of bytes that are no such blocks
                each[:, start : start + 2] = (half * factor).astype(np.float16).view(np.uint8)
        return changed


def propose(fault: Fault) -> Iterator[Proposal]:
    """The factors of scales and of minimums that fit each accused weight best, where they are two."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims:
            continue
        if fault.in_some_blocks_only(weight.name):
            continue
        found = fitted_factors(weight, other)
        if found is None:
            continue
        factors = found.factors
        edit = Halves(weight.dtype, (1 / factors[0], 1 / factors[1]))
        yield Proposal(
            kind="value.scaled",
            role=suspect.role,
            repair=Repair(patches=for_all_names(suspect.model, weight, reading(bytes_edit=edit))),
            tensor=weight.name,
            actual=factors[0] if factors[0] != 1 else factors[1],
            message=f"{weight.name}: {_in_words(*factors)}: its scales and its minimums do not belong together",
            recommendation=f"write {weight.entry.name} again with the scales and the minimums of one quantisation",
        )


def _in_words(scale: float, minimum: float) -> str:
    if minimum == 1:
        return f"the scale of each block is {scale:.4g} times what its minimum goes with"
    if scale == 1:
        return f"the minimum of each block is {minimum:.4g} times what its scale goes with"
    return f"the scale of each block is multiplied by {scale:.4g}, its minimum by {minimum:.4g}"


@dataclass(frozen=True)
class Apart:
    """What scales and minimums of a weight were multiplied by, and Σ of the squares that is left of the difference."""

    factors: tuple[float, float]
    left: float


def fitted_factors(weight: Weight, other: Weight) -> Apart | None:
    """Two factors by least squares, in some of the rows; None where they are one, or the copies are hardly alike."""
    if len(blocks.block_format(weight.dtype).halves) != 2 or weight.bytes_edit or weight.values_edits:
        return None
    alone = replace(weight, bytes_edit=Halves(weight.dtype, (1.0, 0.0)))
    products, count = torch.zeros(3, 3, dtype=torch.float64), 0
    pairs = zip(sampled_blocks_of(weight, other), sampled_blocks_of(alone, other), strict=True)
    for (values, truth), (multiples, _) in pairs:
        parts = torch.stack([x.flatten() for x in (multiples, values - multiples, truth)])
        if not bool(parts.isfinite().all()):
            return None
        products += parts @ parts.T
        count += truth.numel()
    squares, dots, size = products[:2, :2], products[:2, 2], float(products[2, 2])
    if not size or float(torch.linalg.det(squares)) <= 1e-9 * float(squares.diagonal().prod()):
        return None
    inverse = torch.linalg.inv(squares)
    fit = inverse @ dots
    left = max(0.0, size - float(fit @ dots))
    if left > (1 - LEAST_CORRELATION**2) * size or bool((fit.abs() < SMALLEST).any()):
        return None
    deviation, least = CERTAIN * math.sqrt(left / count), max(LEAST_APART, left / size)
    apart = torch.tensor([1.0, -1.0], dtype=torch.float64)
    chance = deviation * float(apart @ inverse @ apart) ** 0.5
    if abs(float(fit @ apart)) <= max(least, chance):
        return None
    # Where one of both is right within its error it is left as it is, and what an encoder takes from it, it takes from
    # the other one as well.
    for place in (0, 1):
        known = max(least, deviation * float(inverse[place, place]) ** 0.5)
        if abs(float(fit[place]) - 1) <= known:
            ratio = float(fit[place] / fit[1 - place])
            return Apart((1.0, ratio) if place == 0 else (ratio, 1.0), left)
    return Apart((1 / float(fit[0]), 1 / float(fit[1])), left)
