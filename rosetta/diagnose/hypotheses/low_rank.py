"""A matrix of low rank between two copies: an adapter that is merged in one of them only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from rosetta.adapted import merge_of
from rosetta.compare.spectrum import edge_of, largest_singular_value
from rosetta.diagnose.edits import HALF_ULP, rounding
from rosetta.diagnose.hypotheses.cell_factors import Cells
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import edited, for_all_names
from rosetta.finding_kind import FindingKind
from rosetta.model import both
from rosetta.weight import Weight, row_ranges
from rosetta.workers import spread

KINDS = (
    FindingKind(
        "value.low_rank",
        means="A weight differs by a matrix of low rank and by nothing else.",
        why="A LoRA adapter was not merged before the file was written, or twice, or with another scale, or with its "
        "factors turned.",
        repair="The matrix of low rank is taken off, and the proof says its rank. Merge the adapter once and export "
        "again.",
        order=80,
        together="differ by matrices of low rank: an adapter that is not merged in it, is merged otherwise, or is in "
        "it alone",
        of_file="merge the adapter into the {side} file once, with its own scale, before anything is quantised, and "
        "export again",
        stated=True,
    ),
)

TAKES_FROM_REFERENCE = True
LARGEST_RANK = 160  # adapters have 4 to 128
OVER = 1.02  # times the largest singular value of noise: what counts as rank
DROP = 1.1  # times the next one: neighbours among a hundred of noise are a few percent apart
LEAST = 1.03  # of the whole, before anything is decomposed
# Of the mean energy of rows and columns, what half of them have at least: an adapter concerns all.
SPREAD = 0.1
EXACT = 2.0**-40  # of the energy: what is left of copies that float32 rounds, and no noise
PLACES, ROWS_AT_A_PLACE = 8, 64  # of a large matrix, before all of it is decomposed
UNRELATED = 0.2  # correlation of these rows
NEARLY_ALL = 0.8  # of the energy of their difference
# Of rows' factors: their spread over its standard error, and the least one that a row is divided by.
UNEVEN, LEAST_LENGTH = 2.0, 0.1
ROUNDS = 4  # of lengths and what is added, each fitted beside the other
FEW_LINES = 8  # rows and columns that a singular vector concerns, as Σ u⁴ = 1 / n counts them
FEW = 0.5  # of the numbers that the weight has, those of the matrix of low rank: more would explain anything
LowRank = tuple[Tensor, Tensor]
"""Factors [R, r] and [r, C]."""
Sized = tuple[Tensor, Tensor, float]
"""The same, and the size of their product relative to the weight."""


@dataclass(frozen=True, eq=False)
class Added:
    """Values less a matrix of low rank that was added to them.

    Args:
        left, right: its factors, float32 [R, r] and [r, C].
        dtype: of the weight: the product may have been rounded to it before it was added.
    """

    fitted: ClassVar[bool] = True  # to the other side's copy
    of_low_rank: ClassVar[bool] = True

    left: Tensor = field(hash=False)
    right: Tensor = field(hash=False)
    dtype: str = "F32"

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        part = self.left[start : start + len(values)].to(values.device) @ self.right.to(values.device)
        return values - part

    def leverage(self, values: Tensor, start: int) -> Tensor:
        """Of each value's own error, which part is in what was fitted to it, as a variance, [rows, C]: that of its row
        among the singular vectors, and that of its column (Stewart 1990, to first order)."""
        of_rows, of_columns = self._of_lines
        of_rows = of_rows[start : start + len(values)].to(values.device)
        return of_rows[:, None] + of_columns.to(values.device)

    @cached_property
    def _of_lines(self) -> tuple[Tensor, Tensor]:
        """Sums of squares of the orthonormal bases that the factors span, [R] and [C]."""
        bases = (torch.linalg.qr(x.double()).Q for x in (self.left, self.right.T))
        rows, columns = (base.square().sum(1).float() for base in bases)
        return rows, columns

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """What float32 rounds in the sum that was stored and in what is taken off, beside the weight's own noise and
        the product's."""
        rows = slice(start, start + len(values))
        left, right = self.left[rows].to(values.device), self.right.to(values.device)
        arithmetic = (values.abs() + left.abs() @ right.abs()) * (2 * HALF_ULP)
        return torch.hypot(sigma, torch.hypot(arithmetic, rounding(left @ right, self.dtype)))


def propose(fault: Fault) -> Iterator[Proposal]:
    """The matrix of low rank that is left when the noise is taken off the difference; of an adapter that is at hand
    `known_adapter` knows more."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims or len(weight.dims) != 2:
            continue
        if merge_of(weight) is not None or merge_of(other) is not None:
            continue
        stretched = _stretched_and_low_rank(weight, other)
        if stretched is not None:
            yield _of_low_rank(fault, suspect, weight, *stretched)
        found = difference_of_low_rank(weight, other)
        if found is not None:
            yield _of_low_rank(fault, suspect, weight, found, None)


def _of_low_rank(
    fault: Fault, suspect: Suspect, weight: Weight, found: Sized, lengths: Cells | None
) -> Proposal:
    """The proposal to take a matrix of low rank off, once rows have the other side's lengths (DoRA) or as they are."""
    left, right, size = found
    rank, numbers, side = right.shape[0], left.numel() + right.numel(), fault.side(suspect.role)
    patch, what, also = edited(Added(left, right, weight.dtype)), "LoRA", ""
    if lengths is not None:
        patch, numbers = both(edited(lengths), patch), numbers + weight.dims[0]
        what, also = "DoRA", ", and each row by a length of its own"
    return Proposal(
        kind="value.low_rank",
        role=suspect.role,
        repair=Repair(patches=for_all_names(suspect.model, weight, patch)),
        tensor=weight.name,
        actual=rank,
        message=f"{weight.name} differs by a matrix of rank {rank} of {size:.2g} of its size{also}: an adapter "
        f"({what}) that is not merged in the {side} file, or in it alone",
        recommendation=f"merge the adapter into {weight.entry.name} once, before it is quantised, and export again",
        from_reference=f"{numbers} numbers for {weight.count} weights: a matrix of rank {rank}{also}",
    )


def _stretched_and_low_rank(weight: Weight, other: Weight) -> tuple[Sized, Cells] | None:
    """What two copies differ by where each row has a length of its own besides; None where rows have one length."""
    lengths, known = _lengths_of_rows(weight, other, None), None
    for _ in range(ROUNDS):
        if lengths is None:
            break
        stretched = replace(weight, values_edits=(*weight.values_edits, lengths))
        found = difference_of_low_rank(stretched, other)
        if found is None:
            break
        known = found, lengths
        # Known the better, the more of the rest is taken off the difference.
        lengths = _lengths_of_rows(weight, other, found)
    return known


def _lengths_of_rows(weight: Weight, other: Weight, added: Sized | None) -> Cells | None:
    """The factor of each row by which a weight is more than the other side's and what is added to that; None where they
    vary no more than noise has them vary."""

    def sums(rows: tuple[int, int]) -> Tensor:
        a, b = (w.values(*rows).double() for w in (weight, other))
        if added is not None:
            b += added[0][slice(*rows)].double() @ added[1].double()
        return torch.stack([(a * b).sum(1), b.square().sum(1), a.square().sum(1)])

    product, size, own = torch.cat(spread(sums, row_ranges(weight)), dim=1)
    factor = product / size.clamp(min=1e-300)
    variance = (own - factor * product).clamp(min=0) / weight.dims[1] / size.clamp(min=1e-300)
    if not bool(factor.isfinite().all()) or bool((factor.abs() < LEAST_LENGTH).any()):
        return None
    if float(factor.var()) < UNEVEN**2 * float(variance.mean()):
        return None
    return Cells("factor", factor.float()[:, None], 1, weight.dims[1], weight.dtype, size.float()[:, None])


def difference_of_low_rank(a: Weight, b: Weight) -> Sized | None:
    """The factors [R, r], [r, C] of what a − b is beyond noise, and its size relative to a; None where that is no
    low rank."""
    if _shares_nothing(a, b):
        return None
    ranges = row_ranges(a)
    gap = torch.cat(spread(lambda rows: a.values(*rows) - b.values(*rows), ranges))
    found = factors_of(gap)
    if found is None:
        return None
    size = torch.cat(spread(lambda rows: torch.linalg.vecdot(v := a.values(*rows), v), ranges))
    return *found, float((found[0] @ found[1]).norm() / size.sum().sqrt())


def factors_of(gap: Tensor) -> LowRank | None:
    """The factors [R, r], [r, C] of what a difference [R, C] is beyond noise; None where that is no low rank.

    Rows and columns are brought to one size, so that noise is alike all over: first by the size of the difference, then
    by that of the noise which is left of it.
    """
    if not bool(gap.isfinite().all()) or min(gap.shape) < 8:
        return None
    found = _factors_of(gap, *_sizes(gap))
    if found is None:
        return None
    noise = gap - found[0] @ found[1]
    if float(noise.square().sum()) <= EXACT * float(gap.square().sum()):
        return found
    return _factors_of(gap, *_sizes(noise)) or found


def _sizes(gap: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows and columns, [R, 1] and [C], whose product is that of a value."""
    columns = gap.square().mean(0).sqrt().clamp(min=1e-20)
    rows = (gap / columns).square().mean(1, keepdim=True).sqrt().clamp(min=1e-20)
    return rows, columns


def _factors_of(gap: Tensor, rows: Tensor, columns: Tensor) -> LowRank | None:
    z = gap / columns / rows
    size = float(z.square().mean().sqrt())
    z /= size
    if largest_singular_value(z) < LEAST:
        return None
    count = min(LARGEST_RANK, min(gap.shape) // 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(z, q=count, niter=3)
    rank = _before_spikes(u, v, _rank(z, s))
    if not rank or rank * sum(gap.shape) > FEW * gap.numel():
        return None
    left = size * rows * u[:, :rank] * s[:rank]
    right = v[:, :rank].T * columns
    part = (left @ right).square()
    if not all(float(x.median()) > SPREAD * float(x.mean()) for x in (part.sum(0), part.sum(1))):
        return None  # a few wrong rows are of low rank, too
    return left, right.contiguous()


def _shares_nothing(a: Weight, b: Weight) -> bool:
    """Whether some rows of a large matrix say that no matrix of low rank lies between two copies.

    Where they do not correlate, what was added must outweigh what it was added to (‖L‖² > 24 ‖a‖² at a correlation of
    0.2), which the difference does not hold: nearly all of it is of low rank then.
    """
    if a.dims[0] < 4 * PLACES * ROWS_AT_A_PLACE:
        return False
    starts = [place * (a.dims[0] - ROWS_AT_A_PLACE) // (PLACES - 1) for place in range(PLACES)]
    x, y = (torch.cat([w.values(start, start + ROWS_AT_A_PLACE) for start in starts]) for w in (a, b))
    size, gap = float(x.norm() * y.norm()), x - y
    if not math.isfinite(size) or not abs(float((x * y).sum())) < UNRELATED * size:
        return False
    energies = torch.linalg.eigvalsh((gap @ gap.T).double())
    return bool(energies[-LARGEST_RANK:].sum() < NEARLY_ALL * energies.sum())


def _rank(z: Tensor, singular: Tensor) -> int:
    """How many singular values lie above what the rest has as noise; 0 where all that are known do, and none stands
    out."""
    whole = left = float(z.double().square().sum())
    for rank, value in enumerate(singular.tolist()):
        if value <= OVER * edge_of(len(z), z.shape[1], left / z.numel()):
            return _last_drop(singular[: rank + 1]) or rank
        left = max(left - value * value, EXACT * whole)
    return _last_drop(singular[: 3 * len(singular) // 4])  # the last ones are known badly


def _before_spikes(u: Tensor, v: Tensor, rank: int) -> int:
    """How many singular vectors come before the first that a few values make, wrong ones among right ones: an adapter
    concerns all rows and columns."""
    narrow = (u[:, :rank].pow(4).sum(0) > 1 / FEW_LINES) & (v[:, :rank].pow(4).sum(0) > 1 / FEW_LINES)
    return int(narrow.int().argmax()) if bool(narrow.any()) else rank


def _last_drop(singular: Tensor) -> int:
    """How many singular values stand above the last drop among them; 0 where there is none. Rounding errors that are
    not alike all over a matrix have more large ones than alike ones, and hardly a gap between any two."""
    drops = (singular[:-1] >= DROP * singular[1:]).nonzero()
    return int(drops[-1]) + 1 if len(drops) else 0
