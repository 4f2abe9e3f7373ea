"""Products with a matrix.

Letters: T = tokens, C = inputs, R = outputs of the matrix, N = heads, D = head size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import functional as F
from rosetta.lazily import torch
from rosetta.openblas import multiply as multiply_into
from rosetta.ops.op import HALF_ULP, Op, Part, Rounding, Settings, Size, Spread, Step, Tensors, size, unit_of
from rosetta.weight import Weight, row_ranges
from rosetta.workers import spread

if TYPE_CHECKING:
    from torch import Tensor

# Float32 floor in units of half a unit in the last place, measured with torch on CPU (docs/noise.md, "floor").
UNITS, UNITS_ONE_TOKEN = 5.0, 0.16  # the latter grows with √C: one token runs another kernel

NEGLIGIBLE = 2.0**-13  # of a float32: what its square adds to a sum of squares, the root is not changed by

TOGETHER = 1 << 16  # values of a stage whose noise is at hand that are judged together

# Tokens beside which decoding costs nothing; a product with so many weights takes a third less time than with fewer.
LONG, WEIGHTS_OF_LONG = 512, 1 << 22


@dataclass(frozen=True)
class Linear(Op):
    """x Wᵀ + b: [T, C] -> [T, R], or [T, N, D] where it gives heads; b where the file has one.

    Args:
        stem: of the tensors' names: `attn_q`.
        rows, columns: R and C.
        heads: N, which the result is viewed as; None: it stays [T, R].
        bias: whether the file may have one.
        multiplied_in: a coarser float that products are computed in, as torch does it; None: that of the inputs.
    """

    stem: str
    rows: Size
    columns: Size
    heads: str | None = None
    bias: bool = True
    multiplied_in: torch.dtype | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return () if self.heads is None else (self.heads,)

    @property
    def shape(self) -> tuple[Size, ...]:
        if self.heads is None:
            return (self.rows,)
        return self.rows if isinstance(self.rows, tuple) else ()

    def tensors(self, c: Settings) -> Tensors:
        rows, columns = size(c, self.rows), size(c, self.columns)
        return Tensors(
            {f"{self.stem}.weight": (rows, columns)}, {f"{self.stem}.bias": (rows,)} if self.bias else {}
        )

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        [x] = inputs
        weight = s.source(f"{self.stem}.weight")
        y = s.cache.product(weight, x) if self.multiplied_in is None else None
        if y is None:
            y = self._product(s, weight, x)
        bias = self._bias(s)
        y = y if bias is None else y + bias
        return y if self.heads is None else y.view(len(x), s[self.heads], -1)

    def _product(self, s: Step, weight: Weight, x: Tensor) -> Tensor:
        """x Wᵀ, [T, R], decoded some rows at a time."""
        ranges = row_ranges(weight, WEIGHTS_OF_LONG if len(x) >= LONG else None)
        y, coarser = x.new_empty(len(x), weight.dims[0]), None
        if self.multiplied_in is not None:
            coarser = x.to(self.multiplied_in)

        def multiply(rows: tuple[int, int]) -> None:
            some = s.cache.passing(weight, *rows)
            if coarser is None:
                multiply_into(x, some, y[:, slice(*rows)])
            else:
                y[:, slice(*rows)] = F.linear(coarser, some.to(coarser.dtype))

        spread(multiply, ranges)
        return y

    @property
    def matrix(self) -> str | None:
        return f"{self.stem}.weight" if self.multiplied_in is None else None

    def _bias(self, s: Step) -> Tensor | None:
        return s.optional(f"{self.stem}.bias") if self.bias else None

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        [x] = inputs
        weight, full = s.source(f"{self.stem}.weight"), s.full_name(f"{self.stem}.weight")
        squares, bias = x.float().square(), self._bias_variance(s, rounding)
        explained = torch.zeros(len(x), weight.dims[0], device=x.device)
        if rounding.explains(full):
            parts = spread(lambda rows: rounding.explained(full, s.cache, x, rows), row_ranges(weight))
            explained = torch.cat(parts, dim=-1)
        squared = weight.values(device=x.device).square().T  # [C, R]
        if before is not None:
            explained = explained + before.explained.expand_as(x) @ squared
        floor = product_unit(x, rounding) * (squares @ squared).sqrt()
        added = self._bias(s)
        floor = floor if added is None else torch.hypot(floor, unit_of(rounding) * added.float().abs())
        if before is not None:
            floor = torch.hypot(floor, (before.floor.expand_as(x).square() @ squared).sqrt())
        return Spread((explained if bias is None else explained + bias).view(y.shape), floor.view(y.shape))

    def parts(self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor) -> list[Part]:
        """By rows of the matrix: a prediction for all logits would be as large as they are."""
        [x] = inputs
        weight = s.source(f"{self.stem}.weight")
        ranges, together = row_ranges(weight), 1
        # And so is what is told of its rows: calls are what costs then.
        at_hand = s.cache.product(weight, x) is not None
        if at_hand:
            together = max(1, TOGETHER * len(ranges) // (len(x) * weight.dims[0]))

        def part(ranges: Sequence[tuple[int, int]]) -> Part:
            rows = slice(ranges[0][0], ranges[-1][1])
            return Part(lambda value: value.flatten(1)[:, rows], lambda: self._sigma(s, rounding, x, ranges))

        return [part(ranges[at : at + together]) for at in range(0, len(ranges), together)]

    def _sigma(self, s: Step, rounding: Rounding, x: Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
        """σ of some rows of x Wᵀ + b, [T, rows]: what the dtypes explain, and the rounding of the arithmetic.

        Args:
            s, rounding: of the stage.
            x: its input.
            ranges: the rows, of which each range is decoded by itself where that is needed.
        """
        full, weight = s.full_name(f"{self.stem}.weight"), s.source(f"{self.stem}.weight")
        rows = ranges[0][0], ranges[-1][1]
        unit, squares, bias = product_unit(x, rounding), x.float().square(), self._bias_variance(s, rounding)
        added, of_sum = self._bias(s), x.new_zeros((), dtype=torch.float32)
        if added is not None:  # a sum that is mostly bias is rounded as it is
            of_sum = unit_of(rounding) * added[slice(*rows)].float().abs()
        sigma = x.new_zeros((), dtype=torch.float32)
        if rounding.explains(full):
            parts = spread(lambda some: rounding.explained(full, s.cache, x, some), ranges)
            sigma = torch.cat(parts, dim=-1)
        sigma = (sigma if bias is None else sigma + bias[slice(*rows)]).sqrt()
        if sigma.dim() and weight.count:
            largest = torch.stack([s.cache.largest(weight, *some) for some in ranges]).max()
            most = unit * largest * squares.sum(1, keepdim=True).sqrt() + of_sum  # of the arithmetic
            if bool((most <= NEGLIGIBLE * sigma).all()):
                return sigma
        sizes = spread(lambda some: squares @ s.cache.rows(weight, *some).square().T, ranges)
        floor = torch.hypot(unit * torch.cat(sizes, dim=-1).sqrt(), of_sum)
        return torch.hypot(sigma, floor)  # the square of float64's floor is no float32

    def _bias_variance(self, s: Step, rounding: Rounding) -> Tensor | None:
        """Explained variance of the bias, [R]."""
        full = s.full_name(f"{self.stem}.bias")
        return rounding.variance(full, s.cache) if self.bias and rounding.explains(full) else None


def product_unit(x: Tensor, rounding: Rounding) -> float:
    """Rounding of a sum of products, relative to the root of the sum of their squares."""
    one_token = UNITS_ONE_TOKEN * math.sqrt(x.shape[-1]) if len(x) == 1 else 0.0
    return max(UNITS, one_token) * HALF_ULP[rounding.dtype] * math.sqrt(2)
