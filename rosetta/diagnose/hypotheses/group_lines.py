"""A factor and an amount for each group of a row: scales applied and minimums not, or the reverse (`value.scaled`).

Two numbers a group are many, and explain noise as well: they are asked only where far more than noise is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from rosetta.diagnose.edits import HALF_ULP, rounding
from rosetta.diagnose.hypotheses.cell_factors import REMAINS, off_throughout
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import changed
from rosetta.weight import Weight, row_ranges
from rosetta.weight_cache import variance

TAKES_FROM_REFERENCE = True
# Columns of a group, the widest first: fewer than 16 values a number would explain anything.
WIDTHS = (256, 128, 64, 32)
SAMPLED_ROWS = 256
# Rms of a group's difference over its prediction, and of how many groups: of noise two numbers take a part, too.
FAR, MOST = 2.0, 0.4
LEAST_FACTOR = 0.05  # sizes of it: what is hardly a multiple of the other side's is no copy
ONE = 0.01  # relative: by how much factors of all groups differ that are one


@dataclass(frozen=True, eq=False)
class Lines:
    """Values less an amount, over a factor, of their group of a row.

    Args:
        factors, amounts: of each group, float32 [R, ⌈C / width⌉].
        means, sizes: of what they were fitted to: its mean and Σ of its squared deviations, as `factors`.
        width: columns of a group.
        dtype: of the tensor, to which what was changed had been rounded.
    """

    fitted: ClassVar[bool] = True  # to the other side's copy

    factors: Tensor = field(hash=False)
    amounts: Tensor = field(hash=False)
    means: Tensor = field(hash=False)
    sizes: Tensor = field(hash=False)
    width: int
    dtype: str

    def touches(self, start: int, stop: int) -> bool:
        return True

    def _wide(self, of_groups: Tensor, values: Tensor, start: int) -> Tensor:
        rows = of_groups[start : start + len(values)].to(values.device)
        return rows.repeat_interleave(self.width, dim=1)[:, : values.shape[1]]

    def values(self, values: Tensor, start: int) -> Tensor:
        factors, amounts = (self._wide(x, values, start).double() for x in (self.factors, self.amounts))
        return ((values.double() - amounts) / factors).float()

    def leverage(self, values: Tensor, start: int) -> Tensor:
        """Of each value's own error, which part is in the line fitted to its group, as a variance: [rows, C]."""
        means, sizes = (self._wide(x, values, start) for x in (self.means, self.sizes))
        return 1 / self.width + (values - means).square() / sizes.clamp(min=1e-30)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        factors, amounts = (self._wide(x, values, start).abs() for x in (self.factors, self.amounts))
        after = self.values(values, start)
        own = sigma / factors * (1 + self.leverage(after, start)).sqrt()
        return torch.hypot(own, rounding(after, self.dtype) + amounts / factors * 2 * HALF_ULP)


def propose(fault: Fault) -> Iterator[Proposal]:
    """The widest groups whose factors and amounts leave no more than noise."""
    for suspect, weight, other in off_throughout(fault):
        width = _fitting(weight, other)
        if width is None:
            continue
        lines = _fitted(weight, other, row_ranges(weight), width)
        low, high = float(lines.factors.min()), float(lines.factors.max())
        middle = float(lines.factors.median())
        one = bool(((lines.factors / middle - 1).abs() <= ONE).double().mean() > 1 / 2)
        factors = f"{middle:.4g}" if one else f"a factor of its own, {low:.4g} to {high:.4g},"
        least, most = float(lines.amounts.min()), float(lines.amounts.max())
        yield Proposal(
            kind="value.scaled",
            role=suspect.role,
            repair=changed(suspect.model, weight, lines),
            tensor=weight.name,
            actual=middle if one else None,
            message=f"{weight.name}: each group of {width} columns of a row is multiplied by {factors} and off by an "
            f"amount of its own, {least:+.4g} to {most:+.4g}: its scales and its minimums do not belong together",
            recommendation=f"write {weight.entry.name} again with the scales and the minimums of one quantisation",
            from_reference=f"{2 * lines.factors.numel()} numbers for {weight.count} weights",
        )


def _fitting(weight: Weight, other: Weight) -> int | None:
    """The width of a group by some rows; None where none fits, or most groups differ by no more than noise: a block
    that is damaged is no line of it."""
    rows = 0, min(weight.dims[0], SAMPLED_ROWS)
    a, b = (w.values(*rows) for w in (weight, other))
    if not bool((a.isfinite() & b.isfinite()).all()):
        return None
    explained = variance(weight, other, *rows).double().clamp(min=1e-30)
    apart = (a - b).double().square() / explained
    for width in WIDTHS:
        if weight.dims[1] % width:
            continue
        groups = apart.view(len(a), -1, width).mean(2)
        if float((groups > FAR**2).double().mean()) < MOST:
            return None
        lines = _fitted(weight, other, [rows], width)
        if bool((lines.factors.abs() < LEAST_FACTOR).any()):
            continue
        gap = lines.values(a, 0).double() - b
        allowed = (
            lines.sigma(weight.sigma(*rows), a, 0).double().square() + other.sigma(*rows).double().square()
        )
        if float((gap.square() / allowed.clamp(min=1e-30)).mean()) <= REMAINS**2:
            return width
    return None


def _fitted(weight: Weight, other: Weight, ranges: list[tuple[int, int]], width: int) -> Lines:
    """The lines of least squares of some ranges of rows."""
    parts = [_sums(weight, other, rows, width) for rows in ranges]
    factors, amounts, means, sizes = torch.cat(parts, 1).float()
    return Lines(factors, amounts, means, sizes, width, weight.dtype)


def _sums(weight: Weight, other: Weight, rows: tuple[int, int], width: int) -> Tensor:
    """Of each group of some rows the factor and the amount, and the mean and the size that they were fitted to, float64
    [4, rows, groups]."""
    a, b = (w.values(*rows).double() for w in (weight, other))
    a, b = (x.view(len(x), -1, width) for x in (a, b))
    mean_a, mean_b = a.mean(2), b.mean(2)
    size = (b - mean_b[..., None]).square().sum(2)
    factor = ((a - mean_a[..., None]) * (b - mean_b[..., None])).sum(2) / size.clamp(min=1e-300)
    return torch.stack([factor, mean_a - factor * mean_b, mean_b, size])
