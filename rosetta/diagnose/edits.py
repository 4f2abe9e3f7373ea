"""What repairs do to a weight's values, row by row, and to the noise that these carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rosetta.dtypes import FLOATS
from rosetta.weight import Weight

SQRT12 = 12**0.5
HALF_ULP = 2.0**-24  # of float32, relative: what one more operation rounds by at most


@dataclass(frozen=True)
class Scaled:
    """Values divided by a factor that they were multiplied with.

    Args:
        factor: what they were multiplied with.
        dtype: of the tensor: what was multiplied had been rounded to it, too.
    """

    factor: float
    dtype: str = "F32"

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        return (values.double() / self.factor).float()

    def stored(self, values: Tensor, start: int) -> Tensor:
        """See `Reversible`."""
        return (values.double() * self.factor).float()

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return torch.hypot(sigma / abs(self.factor), rounding(self.values(values, start), self.dtype))


@dataclass(frozen=True)
class Requantised:
    """Values that were quantised, changed, and quantised again: both roundings are in them."""

    def touches(self, start: int, stop: int) -> bool:
        return False  # only their noise does

    def values(self, values: Tensor, start: int) -> Tensor:
        return values

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return sigma * 2**0.5


@dataclass(frozen=True)
class Offset:
    """Values less an amount that was added to them; see `Scaled` for `dtype`."""

    amount: float
    dtype: str = "F32"

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        return (values.double() - self.amount).float()

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        arithmetic = abs(self.amount) * 2 * HALF_ULP
        if self.dtype not in FLOATS:
            sigma = sigma * 2**0.5  # see Requantised
        return torch.hypot(sigma, rounding(self.values(values, start), self.dtype) + arithmetic)


def rounding(values: Tensor, dtype: str) -> Tensor:
    """Standard deviation of having been rounded to a float dtype once more, and of float32 arithmetic."""
    arithmetic = values.abs() * (2 * HALF_ULP)
    bits = FLOATS[dtype].mantissa_bits if dtype in FLOATS else None
    if bits is None or bits >= 23:  # blocks, and what float32 holds: its arithmetic is all
        return arithmetic
    exponent = torch.frexp(values).exponent - 1  # of the power of two below |value|
    step = torch.ldexp(torch.ones_like(values), exponent - bits)
    return torch.hypot(arithmetic, step / SQRT12)


Mask = Callable[[int, Tensor], Tensor]
"""(first row, own values [rows, C] ([rows] of a vector)) -> bool of the same shape: which of them to take."""


@dataclass(frozen=True)
class FromOther:
    """Some values taken from the other side, because this side's file no longer holds them.

    Args:
        other: the same weight of the other side.
        mask: which values to take.
        rows: (first, after the last) row that any of them is in.
    """

    other: Weight
    mask: Mask = field(hash=False)
    rows: tuple[int, int]

    def touches(self, start: int, stop: int) -> bool:
        return start < self.rows[1] and stop > self.rows[0]

    def values(self, values: Tensor, start: int) -> Tensor:
        stop = start + len(values)
        if not self.touches(start, stop):
            return values
        return torch.where(self.mask(start, values), self.other.values(start, stop, values.device), values)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        stop = start + len(values)
        if not self.touches(start, stop):
            return sigma
        return torch.where(self.mask(start, values), self.other.sigma(start, stop, values.device), sigma)
