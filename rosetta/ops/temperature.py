"""Queries that are scaled by their position, so that attention stays sharp far into a long context.

Letters: T = tokens, N = heads, D = head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import torch
from rosetta.ops.op import ELEMENTWISE_UNITS, Rounding, Spread, Step, nothing, unit_of
from rosetta.ops.pointwise import Elementwise

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Temperature(Elementwise):
    """x · (1 + β·ln(1 + ⌊(position + offset) / length⌋)), [T, N, D].

    Args:
        scale: config key of β.
        length: config key of after how many positions it grows.
        offset: of the position.
    """

    scale: str = "attention.temperature_scale"
    length: str = "attention.temperature_length"
    offset: int = 0

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.scale, self.length)

    def _factors(self, s: Step, tokens: int) -> Tensor:
        """Of each token, float64 [T]."""
        places = s.positions(tokens)
        position = torch.arange(places.start, places.stop, dtype=torch.float64) + self.offset
        beta: float = s[self.scale]
        return 1 + beta * torch.log1p(torch.floor(position / max(s[self.length], 1)))

    def stretch(self, s: Step) -> None:  # a factor of each token's own
        return None

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        own = ELEMENTWISE_UNITS * unit_of(rounding) * y.float().abs()
        if before is None:
            return Spread(nothing(y), own)
        factor = self._factors(s, len(y)).to(own).view(-1, *[1] * (y.dim() - 1))
        return Spread(before.explained * factor.square(), before.floor * factor + own)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        [x] = inputs
        return x * self._factors(s, len(x)).to(x).view(-1, *[1] * (x.dim() - 1))
