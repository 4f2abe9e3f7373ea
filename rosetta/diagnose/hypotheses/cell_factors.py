"""A factor or an amount for each row, column, group or block of a matrix: scales and zero points of a
quantisation (`value.scaled`, `value.offset`).

What: rows, columns, groups of columns or square blocks differ by a factor or an
amount of their own. Why: the scales of a quantised checkpoint were left out, its zero points are off, channels were
scaled on one side only. Repair: apply the scales, correct the zero points. The numbers are fitted to the other side's
copy: one for many values, or none at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rosetta.diagnose.edits import HALF_ULP, rounding
from rosetta.diagnose.hypothesis import Fault, Proposal, Suspect
from rosetta.diagnose.patches import changed
from rosetta.dtypes import FLOATS
from rosetta.weight import Weight, row_ranges
from rosetta.weight_cache import variance

TAKES_FROM_REFERENCE = True
What = Literal["factor", "amount"]
# Rows, columns of a cell; 0: all of them.
CUTS = ((0, 1), (1, 0), (128, 128), (1, 128), (1, 64), (1, 32), (1, 16))
SAMPLED_ROWS = 256
REMAINS, LESSENS = 1.25, 0.9  # rms of what is left over its prediction, and of what there was, by a sample
CERTAIN = 12.0  # standard deviations of what numbers fitted to noise take off it; rows of a clean copy are no χ² quite
FEWEST = 16  # values a number: fewer would explain anything
AWAY, MOST = 2e-3, 0.4  # from one, or from nothing of the values' rms; of the groups or blocks of a matrix
# Of fewer groups than that each must have its one number so well that nearly all of its difference is gone: what is
# damaged is not off by one amount. So many, so that none is a chance.
LEFT_OF_SOME, FEWEST_CELLS = 0.1, 8
FAR = 4.0  # times the middle cell's rms difference
ONE_LENGTH = 0.01  # relative: by how much lengths of rows differ that are one, once they are rounded
NEARLY_ONE = 1e-4  # factors that vary less than this are one, which `scaled` proposes


@dataclass(frozen=True, eq=False)
class Cells:
    """Values divided by a factor, or less an amount, of their own cell.

    Args:
        what: which of the two.
        numbers: of each cell, float32 [⌈R / rows⌉, ⌈C / columns⌉].
        rows, columns: of a cell.
        dtype: of the tensor, to which what was changed had been rounded.
        known: what each number was fitted to, Σ b² of factors and the count of amounts, as `numbers`.
        off: standard deviation of each amount, from the rounding of what it was fitted to, as `numbers`: beside values
            near nought, whose own is next to nothing in a float, it is what is left of an amount.
    """

    fitted: ClassVar[bool] = True  # to the other side's copy

    what: What
    numbers: Tensor = field(hash=False)
    rows: int
    columns: int
    dtype: str
    known: Tensor = field(hash=False)
    off: Tensor | None = field(default=None, hash=False)

    def touches(self, start: int, stop: int) -> bool:
        return True

    def _wide(self, values: Tensor, start: int, numbers: Tensor | None = None) -> Tensor:
        index = torch.arange(start, start + len(values)) // self.rows
        of_cells = self.numbers if numbers is None else numbers
        return of_cells[index].repeat_interleave(self.columns, dim=1)[:, : values.shape[1]].to(values.device)

    def of_each(self, of_cells: Tensor, rows: int) -> Tensor:
        """What is said of cells, of each value of the first rows: [rows, C and more]."""
        return of_cells[torch.arange(rows) // self.rows].repeat_interleave(self.columns, dim=1)

    def stored(self, values: Tensor, start: int) -> Tensor:
        """See `Reversible`."""
        wide = self._wide(values, start).double()
        return (values.double() * wide if self.what == "factor" else values.double() + wide).float()

    def leverage(self, values: Tensor, start: int) -> Tensor:
        """Of each value's own error, which part is in the number fitted to its cell, as a variance: [rows, C]."""
        known = self._wide(values, start, self.known).clamp(min=1e-30)
        return (values.square() if self.what == "factor" else torch.ones_like(values)) / known

    def values(self, values: Tensor, start: int) -> Tensor:
        wide = self._wide(values, start).double()
        return (values.double() / wide if self.what == "factor" else values.double() - wide).float()

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        wide, after = self._wide(values, start), self.values(values, start)
        if self.what == "factor":
            return torch.hypot(sigma / wide.abs(), rounding(after, self.dtype))
        grown = sigma if self.dtype in FLOATS else sigma * 2**0.5
        if self.off is not None:
            grown = torch.hypot(grown, self._wide(values, start, self.off))
        return torch.hypot(grown, rounding(after, self.dtype) + wide.abs() * 2 * HALF_ULP)


def propose(fault: Fault) -> Iterator[Proposal]:
    """The coarsest cut into cells whose factors or amounts leave no more than noise."""
    for suspect, weight, other in off_throughout(fault):
        found = _fitting(weight, other)
        if found is None:
            continue
        what, rows, columns = found
        cells = fitted_cells(weight, other, what, rows, columns)
        low, high = float(cells.numbers.min()), float(cells.numbers.max())
        count, place = cells.numbers.numel(), _in_words(cells, weight)
        if what == "factor":
            kind, said = "value.scaled", f"is multiplied by a factor of its own, {low:.4g} to {high:.4g}"
            said += _length_of_rows(weight, other)
            done = f"apply the scales of the quantisation to {weight.entry.name}, or take them off, on export"
        else:
            kind, said = "value.offset", f"is off by an amount of its own, {low:+.4g} to {high:+.4g}"
            done = (
                f"correct the zero points of {weight.entry.name}: each value of a group is off by one amount"
            )
        yield Proposal(
            kind=kind,
            role=suspect.role,
            repair=changed(suspect.model, weight, cells),
            tensor=weight.name,
            message=f"{weight.name}: {place} {said}",
            recommendation=done,
            from_reference=f"{count} numbers for {weight.count} weights",
        )


def off_throughout(fault: Fault) -> Iterator[tuple[Suspect, Weight, Weight]]:
    """Accused matrices and the other side's copies, but those that are equal in most blocks."""
    if fault.recorded:
        return
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is None or other.dims != weight.dims or len(weight.dims) != 2:
            continue
        if not fault.in_some_blocks_only(weight.name):
            yield suspect, weight, other


def _length_of_rows(weight: Weight, other: Weight) -> str:
    """What is said of rows that were brought to one length; nothing of others, or where both sides have it."""
    own, others = (w.values(0, min(w.dims[0], SAMPLED_ROWS)).norm(dim=1) for w in (weight, other))
    length = float(own.mean())
    one, same = (float(x.std()) <= ONE_LENGTH * float(x.mean()) for x in (own, others))
    if not one or same or len(own) < FEWEST_CELLS:
        return ""
    return f": all rows of it have the length {length:.4g}"


def _in_words(cells: Cells, weight: Weight) -> str:
    rows, columns = weight.dims
    if cells.columns >= columns:
        return "each row" if cells.rows == 1 else f"each group of {cells.rows} rows"
    if cells.rows >= rows:
        return "each column" if cells.columns == 1 else f"each group of {cells.columns} columns"
    if cells.rows == 1:
        return f"each group of {cells.columns} columns of a row"
    return f"each block of {cells.rows} × {cells.columns}"


def lines_have_factors(weight: Weight, other: Weight) -> bool:
    """Whether rows or columns have factors of their own: one factor for all would leave more than noise, though each
    value's own rounding may hide it."""
    if weight.dims != other.dims or len(weight.dims) != 2:
        return False
    found = _fitting(weight, other)
    return found is not None and found[0] == "factor" and (found[2] == 1 or found[1:] == (1, weight.dims[1]))


def _fitting(weight: Weight, other: Weight) -> tuple[What, int, int] | None:
    """What, and the rows and columns of a cell, by some rows; None where nothing fits."""
    total, columns = weight.dims
    some = min(total, SAMPLED_ROWS) // 128 * 128 or total
    a, b = (w.values(0, some).double() for w in (weight, other))
    if not bool((a.isfinite() & b.isfinite()).all()):
        return None
    explained = variance(weight, other, 0, some).double().clamp(min=1e-30)
    before = float(((a - b).square() / explained).mean().sqrt())

    def left(cells: Cells) -> float:
        gap = cells.values(a.float(), 0).double() - b
        own = cells.sigma(weight.sigma(0, some), a.float(), 0)
        allowed = (own.square() + other.sigma(0, some).square()).double()
        return float((gap.square() / allowed.clamp(min=1e-30)).mean().sqrt())

    def shrunk_to(cells: Cells) -> float:
        """A repair that only allows more noise would lessen the ratio as well: the difference itself must shrink. As it
        is stored: divided by a factor below one, the rounding would grow by more than a small factor takes off."""
        return float(((a - cells.stored(b.float(), 0).double()).square() / explained).mean().sqrt())

    whole = _cells(a, b, "factor", some, columns, weight.dtype, explained)
    # One factor does for all, which `scaled` proposes, unless rows or columns have more of it than chance gives them.
    one_does = bool((whole.numbers.abs() > 1e-12).all()) and left(whole) <= REMAINS
    rest = min(before, shrunk_to(whole)) if one_does else before
    for rows, width in CUTS:
        tall, wide = rows or some, width or columns
        if tall > some or wide > columns or tall * wide < FEWEST or (rows == 0 and some < total // 2 < 32):
            continue
        lines = (tall == 1 and wide == columns) or wide == 1
        if one_does and not lines:
            continue
        for what in ("factor", "amount"):
            cells = _cells(a, b, what, tall, wide, weight.dtype, explained)
            numbers = cells.numbers.double()
            if numbers.numel() == 1:
                continue  # one number for all: `scaled` and `offset` propose it
            if what == "factor" and (
                float(numbers.std()) < NEARLY_ONE or not bool((numbers.abs() > 1e-12).all())
            ):
                continue
            if not (_concerns_all(numbers, what, a, lines) or _explains_some(cells, numbers, a, b)):
                continue
            after = shrunk_to(cells)
            shrunk = after <= LESSENS * before
            if one_does or (lines and not shrunk):
                shrunk = _beyond_chance(rest, after, a.numel(), numbers.numel())
            if left(cells) <= REMAINS and shrunk:
                return what, rows or total, wide
    return None


def _beyond_chance(before: float, after: float, values: int, numbers: int) -> bool:
    """Whether a number for each row or column takes off more of what there was than so many numbers take off noise:
    each one part of it, with the variance of χ².

    Args:
        before, after: rms of the difference over its prediction.
        values, numbers: how many there are.
    """
    part = after**2 / max(1 - numbers / values, 1e-3)
    return (before**2 - after**2) * values >= part * (numbers + CERTAIN * math.sqrt(2 * numbers))


def _concerns_all(numbers: Tensor, what: What, a: Tensor, lines: bool) -> bool:
    """Whether more than a few cells have a number of their own: damage of one block is no scale of it."""
    away = (numbers - 1).abs() if what == "factor" else numbers.abs() / a.square().mean().sqrt()
    return int((away > AWAY).sum()) >= (2 if lines else MOST * numbers.numel())


def _explains_some(cells: Cells, numbers: Tensor, a: Tensor, b: Tensor) -> bool:
    """Whether the cells that are far off, few as they are, are each off by one number and by next to nothing else."""
    gap, rest = (
        _by_cell((x - b).square(), cells.rows, cells.columns)
        for x in (a, cells.values(a.float(), 0).double())
    )
    far = gap > (FAR**2) * gap.median()
    return int(far.sum()) >= FEWEST_CELLS and bool((rest[far] <= LEFT_OF_SOME**2 * gap[far]).all())


def _cells(a: Tensor, b: Tensor, what: What, rows: int, columns: int, dtype: str, explained: Tensor) -> Cells:
    """The cells of some rows, each with its factor or amount of least squares."""
    sums = torch.stack([_by_cell(part, rows, columns) for part in _parts(a, b, what, explained)])
    return _of_sums(sums, what, rows, columns, dtype)


def _parts(a: Tensor, b: Tensor, what: What, explained: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each value what is summed over its cell: a number is the first sum over the second; and the variance."""
    first, second = (a - b, torch.ones_like(a)) if what == "amount" else (a * b, b * b)
    return first, second, explained


def _of_sums(sums: Tensor, what: What, rows: int, columns: int, dtype: str) -> Cells:
    """The cells of three sums each, float64 [3, cells of rows, of columns]; see `_parts`."""
    known = sums[1].clamp(min=1e-300)
    off = (sums[2].sqrt() / known).float() if what == "amount" else None
    return Cells(what, (sums[0] / known).float(), rows, columns, dtype, sums[1].float(), off)


def _by_cell(x: Tensor, rows: int, columns: int) -> Tensor:
    """Sums over cells, [⌈R / rows⌉, ⌈C / columns⌉]."""
    x = torch.nn.functional.pad(x, (0, -x.shape[1] % columns, 0, -x.shape[0] % rows))
    return x.view(x.shape[0] // rows, rows, x.shape[1] // columns, columns).sum((1, 3))


def fitted_cells(weight: Weight, other: Weight, what: What, rows: int, columns: int) -> Cells:
    """The cells of the whole weight."""
    sums: Tensor | None = None
    count = -(-weight.dims[0] // rows)
    for start, stop in row_ranges(weight):
        a, b = (w.values(start, stop).double() for w in (weight, other))
        parts = _parts(a, b, what, variance(weight, other, start, stop).double())
        of_rows = torch.stack([_by_cell(part, 1, columns) for part in parts])  # [3, rows, cells of a row]
        if sums is None:
            sums = torch.zeros(3, count, of_rows.shape[2], dtype=torch.float64)
        sums.index_add_(1, torch.arange(start, stop) // rows, of_rows)
    assert sums is not None
    return _of_sums(sums, what, rows, columns, weight.dtype)
