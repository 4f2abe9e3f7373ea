"""An activation of two parts of one row, which is cut into them otherwise than it was put together.

Letters: F = width of a part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import torch
from rosetta.ops.op import Op, Rounding, Settings, Spread, Step, Tensors

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Regrouped(Op):
    """What an operation makes of gate and up, each [T, …, F], where their common row of 2F is cut in another way.

    Args:
        op: the operation, of two inputs.
        halves: whether a row in which they lie by turns is cut in halves; else halves are taken by turns.
    """

    op: Op
    halves: bool

    @property
    def keys(self) -> tuple[str, ...]:
        return self.op.keys

    def tensors(self, c: Settings) -> Tensors:
        return self.op.tensors(c)

    def _cut(self, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        if self.halves:
            first, second = torch.stack([gate, up], -1).flatten(-2).chunk(2, -1)
            return first, second
        row = torch.cat([gate, up], -1)
        return row[..., ::2], row[..., 1::2]

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return self.op.compute(s, *self._cut(*inputs))

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        return self.op.spread(s, rounding, y, *self._cut(*inputs), before=before)
