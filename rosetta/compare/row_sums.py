"""Sums over the columns of each row of two copies, seen in one pass.

Letters: R = rows, C = columns, G = groups of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Of a row's |x|² in float32, relative: eight running sums, each of a few thousand weights and less (measured: 3e-7).
SIZE_ROUNDING = 1e-6


@dataclass(frozen=True)
class RowSums:
    """Sums over the columns of each row of two copies a and b, float64 [R].

    Args:
        product: Σ (a − b)·b.
        gap: Σ (a − b).
        error: Σ (a − b)².
        explained: Σ of the variance that the dtypes explain.
        size_a, size_b: Σ a² and Σ b².
        spread: Σ (a − b)²·b², the variance of `product`.
    """

    product: Tensor
    gap: Tensor
    error: Tensor
    explained: Tensor
    size_a: Tensor
    size_b: Tensor
    spread: Tensor

    @staticmethod
    def empty(rows: int) -> RowSums:
        """Of so many rows, to be `put`."""
        return RowSums(*(torch.empty(rows, dtype=torch.float64) for _ in RowSums.__dataclass_fields__))

    def put(self, start: int, some: RowSums) -> None:
        """Take over the sums of some rows, from `start` on."""
        for name in RowSums.__dataclass_fields__:
            of_some = getattr(some, name)
            getattr(self, name)[start : start + len(of_some)] = of_some

    def turned(self) -> RowSums:
        """The same with a and b exchanged: Σ (b − a)·a = −(Σ (a − b)·b + Σ (a − b)²)."""
        return RowSums(
            product=-(self.product + self.error),
            gap=-self.gap,
            error=self.error,
            explained=self.explained,
            size_a=self.size_b,
            size_b=self.size_a,
            spread=self.spread,
        )


@dataclass(frozen=True)
class PassedRows:
    """What is seen of two copies a and b in one pass over some rows, [R, C].

    Args:
        error, explained: means over groups of columns of (a − b)² and of the variance that the dtypes explain, float32
            [R, G]; the last group may be short.
        gap, size_a, size_b: Σ (a − b), Σ a² and Σ b² of each row, float64 [R].
        product, spread: as in `RowSums`; None where they follow from the sizes.
    """

    error: Tensor
    explained: Tensor
    gap: Tensor
    size_a: Tensor
    size_b: Tensor
    product: Tensor | None = None
    spread: Tensor | None = None


def pass_over(a: Tensor, b: Tensor, explained: Tensor, group: int, proportional: bool) -> PassedRows:
    """See what there is to see of some rows.

    Args:
        a, b, explained: the copies and the variance of their difference, float32 [R, C].
        group: columns of a group.
        proportional: whether each error is as large as its weight, as in float dtypes; else of a block's size.
    """
    gap = a - b
    of_rows = gap.sum(1).double()
    product = spread = None
    if proportional:
        both = gap * b
        product, spread = both.sum(1).double(), torch.linalg.vector_norm(both, dim=1).double().square()
    size_a, size_b = (torch.linalg.vector_norm(x, dim=1).double().square() for x in (a, b))
    means = by_group(gap.square_(), group), by_group(explained, group)
    return PassedRows(*means, of_rows, size_a, size_b, product, spread)


def by_group(x: Tensor, group: int) -> Tensor:
    """Mean over groups of columns, [R, C] -> [R, ⌈C / G⌉]; the last group may be short."""
    rows, columns = x.shape
    whole = columns // group * group
    # A product takes half of the time of a sum over so few.
    means = (x[:, :whole].reshape(-1, group) @ x.new_full((group, 1), 1 / group)).view(rows, -1)
    return means if whole == columns else torch.cat([means, x[:, whole:].mean(-1, keepdim=True)], dim=1)


def row_sums(passed: PassedRows, widths: Tensor) -> RowSums:
    """The sums of some rows.

    Where errors are of a block's size, Σ (a − b)·b follows from the three sizes, |a|² = |b|² + 2 (a − b)·b + |a − b|²,
    and costs no pass over the rows; what the rounding of these adds to its variance is in `spread`. Errors as large as
    their weights may be no larger than that.

    Args:
        passed: what was seen of them.
        widths: columns of each group, [G].
    """
    error, explained = ((x @ widths.to(x)).double() for x in (passed.error, passed.explained))
    size_a, size_b, product, spread = passed.size_a, passed.size_b, passed.product, passed.spread
    if product is None or spread is None:
        product = (size_a - size_b - error) / 2
        spread = error * size_b / float(widths.sum()) + (SIZE_ROUNDING * size_b).square()
    sums = (product, passed.gap, error, explained, size_a, size_b, spread)
    return RowSums(*(x.cpu() for x in sums))
