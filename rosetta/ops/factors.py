"""Products with learned factors: one of each feature or expert, or one for all.

Letters: T = tokens, H = features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import torch
from rosetta.ops.op import (
    ELEMENTWISE_UNITS,
    Op,
    Rounding,
    Settings,
    Size,
    Spread,
    Step,
    Tensors,
    size,
    unit_of,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Factors(Op):
    """x times a vector of the file along the last dimension, [T, …, H]; x where the file has none.

    Args:
        tensor: its name, without `blk.N.`: `layer_output_scale.weight`.
        width: H, or 1.
    """

    tensor: str
    width: Size

    def tensors(self, c: Settings) -> Tensors:
        return Tensors({}, {self.tensor: (size(c, self.width),)})

    def takes_part(self, s: Step) -> bool:
        return s.has(self.tensor)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return inputs[0] * s.weight(self.tensor) if self.takes_part(s) else inputs[0]

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        full, factors = s.full_name(self.tensor), s.weight(self.tensor).float()
        explained = torch.zeros((), device=y.device)
        if rounding.explains(full):
            explained = inputs[0].float().square() * rounding.variance(full, s.cache).view(factors.shape)
        floor = ELEMENTWISE_UNITS * unit_of(rounding) * y.float().abs()
        if before is None:
            return Spread(explained, floor)
        return Spread(explained + before.explained * factors.square(), floor + before.floor * factors.abs())
