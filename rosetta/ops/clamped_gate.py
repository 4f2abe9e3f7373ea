"""The gated activation of gpt-oss: clamped, with a slope of its own and one added to the other factor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta.ops.op import Op, Rounding, Spread, Step, nothing, unit_of
from rosetta.ops.pointwise import ACTIVATION_UNITS
from rosetta.workers import sum_of_squares


@dataclass(frozen=True)
class ClampedGate(Op):
    """(up + 1) · gate · sigmoid(α · gate), gate held below c and up between −c and c, of two inputs gate and up.

    Args:
        alpha, limit: config keys of α and c.
    """

    alpha: str = "swiglu_alpha"
    limit: str = "swiglu_limit"

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.alpha, self.limit)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        limit = float(s[self.limit])
        gate, up = inputs[0].clamp(max=limit), inputs[1].clamp(-limit, limit)
        return (up + 1) * (gate * torch.sigmoid(gate * float(s[self.alpha])))

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        size = y.float().abs()
        least = math.sqrt(sum_of_squares(y) / y.numel()) * 0.1 if y.numel() else 0.0
        # up + 1 is rounded on its own: where up is −1, what is left is that.
        cancelled = (y / (inputs[1].clamp(-float(s[self.limit]), float(s[self.limit])) + 1)).float().abs()
        cancelled = cancelled.nan_to_num(0.0, 0.0, 0.0)
        floor = ACTIVATION_UNITS * unit_of(rounding) * size.maximum(size.new_tensor(least))
        return Spread(nothing(y), floor + unit_of(rounding) * cancelled)
