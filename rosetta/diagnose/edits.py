"""What repairs do to a weight's values, row by row, and to the noise that these carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rosetta.weight import Weight

HALF_ULP = 2.0**-24  # of float32, relative: what one more operation rounds by at most


@dataclass(frozen=True)
class Scaled:
    """Values divided by a factor that they were multiplied with."""

    factor: float

    def values(self, values: Tensor, start: int) -> Tensor:
        return (values.double() / self.factor).float()

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        # Both the multiplication that went wrong and its undoing round to float32.
        return torch.hypot(sigma / abs(self.factor), values.abs() * (2 * HALF_ULP / abs(self.factor)))


@dataclass(frozen=True)
class Offset:
    """Values less an amount that was added to them."""

    amount: float

    def values(self, values: Tensor, start: int) -> Tensor:
        return (values.double() - self.amount).float()

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return torch.hypot(sigma, values.abs().clamp_min(abs(self.amount)) * (2 * HALF_ULP))


Mask = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(own values, the other side's, variance that both dtypes explain), each [rows, C] -> bool of the same shape."""


@dataclass(frozen=True)
class FromOther:
    """Some values taken from the other side, because this side's file no longer holds them.

    Args:
        weight: this side's, as stored.
        other: the same weight of the other side.
        mask: which values to take.
    """

    weight: Weight
    other: Weight
    mask: Mask = field(hash=False)

    def values(self, values: Tensor, start: int) -> Tensor:
        theirs, taken = self._taken(values, start)
        return torch.where(taken, theirs, values)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        _, taken = self._taken(values, start)
        return torch.where(taken, self.other.sigma(start, start + len(values)), sigma)

    def count(self) -> tuple[int, int]:
        """(values taken, values in all)."""
        taken = 0
        step = max(1, (1 << 24) // max(1, self.other.count // max(1, self.other.dims[0])))
        for start in range(0, self.other.dims[0], step):
            taken += int(self._taken(self.weight.values(start, start + step), start)[1].sum())
        return taken, self.other.count

    def _taken(self, values: Tensor, start: int) -> tuple[Tensor, Tensor]:
        stop = start + len(values)
        theirs = self.other.values(start, stop)
        variance = self.other.sigma(start, stop).square() + self.weight.sigma(start, stop).square()
        return theirs, self.mask(values, theirs, variance)
