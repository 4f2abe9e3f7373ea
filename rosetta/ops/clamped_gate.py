"""Clamped gated activations: that of gpt-oss, with a slope of its own and one added to the other factor, and that of
Step 3.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import torch
from rosetta.ops.op import Op, Rounding, Spread, Step, unit_of
from rosetta.ops.pointwise import ACTIVATIONS, Activation, activation_spread

if TYPE_CHECKING:
    from torch import Tensor


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
        # up + 1 is rounded on its own: where up is −1, what is left is that.
        cancelled = (y / (inputs[1].clamp(-float(s[self.limit]), float(s[self.limit])) + 1)).float().abs()
        cancelled = cancelled.nan_to_num(0.0, 0.0, 0.0)
        own = activation_spread(y, y.float().abs(), rounding)
        return Spread(own.explained, own.floor + unit_of(rounding) * cancelled)


@dataclass(frozen=True)
class ClampedActivation(Activation):
    """act(gate) held below c, times up held between −c and c, of two inputs gate and up; c is 0 where nothing is held.

    Args:
        limit: config key of c.
    """

    limit: str = "swiglu_clamp_exp"

    @property
    def keys(self) -> tuple[str, ...]:
        return (*super().keys, self.limit)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        limit = float(s[self.limit])
        if not limit:
            return super().compute(s, *inputs)
        gate, up = inputs
        held: Tensor = ACTIVATIONS[s[self.key]](gate).clamp(max=limit) * up.clamp(-limit, limit)
        return held
