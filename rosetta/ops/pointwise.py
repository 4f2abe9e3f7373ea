"""Operations on each element by itself: sums, activations.

Letters: T = tokens, H = features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from rosetta.ops.op import Op, Rounding, Spread, Step, nothing, unit_of
from rosetta.workers import sum_of_squares

ADD_UNITS, ACTIVATION_UNITS = 1.0, 7.0  # float32 floors, see `linear.UNITS`

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True)
class Add(Op):
    """The sum of two stages."""

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        a, b = inputs
        return a + b

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        return Spread(nothing(y), ADD_UNITS * unit_of(rounding) * y.float().abs())


@dataclass(frozen=True)
class Activation(Op):
    """act(gate) · up of two inputs, act(up) of one."""

    @property
    def keys(self) -> tuple[str, ...]:
        return ("activation",)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        first, *up = inputs
        y = ACTIVATIONS[s["activation"]](first)
        return y * up[0] if up else y

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        size = y.float().abs()
        least = math.sqrt(sum_of_squares(y) / y.numel()) * 0.1 if y.numel() else 0.0
        return Spread(nothing(y), ACTIVATION_UNITS * unit_of(rounding) * size.maximum(size.new_tensor(least)))
