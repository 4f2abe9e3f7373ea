"""Operations as they were seen in a runtime, for architectures that nobody described: sizes are those of weights.

Letters: T = tokens, C = inputs, R = outputs of a matrix, W = values that are normed together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import torch
from rosetta.ops.linear import Linear
from rosetta.ops.norm import Norm
from rosetta.ops.op import NotComputable, Op, Part, Rounding, Spread, Step

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Given(Op):
    """A stage that is known only as it was observed."""

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        raise NotComputable("it is known only as it was observed")

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        raise NotComputable("it is known only as it was observed")


@dataclass(frozen=True)
class SeenLinear(Linear):
    """A product whose input may be heads, and of whose result some values are taken, in dims of their own.

    Args:
        dims: of the result, without the tokens.
        taken: which values it is, as runs [start, stop); empty: all.
    """

    dims: tuple[int, ...] = ()
    taken: tuple[tuple[int, int], ...] = ()

    def _some(self, whole: Tensor) -> Tensor:
        """What is taken of the whole product, [T, R] -> [T, …]."""
        if self.taken:
            whole = torch.cat([whole[:, start:stop] for start, stop in self.taken], -1)
        return whole.view(len(whole), *self.dims)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return self._some(super().compute(s, inputs[0].flatten(1)))

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        x = inputs[0].flatten(1)
        whole = y.new_empty(len(x), s.source(f"{self.stem}.weight").dims[0])
        found = super().spread(s, rounding, whole, x, before=before)
        return Spread(self._some(found.explained), self._some(found.floor))

    def parts(self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor) -> list[Part]:
        x = inputs[0].flatten(1)
        return Op.parts(self, s, rounding, y, x) if self.taken else super().parts(s, rounding, y, x)


@dataclass(frozen=True)
class SeenNorm(Norm):
    """A norm over so many values at a time, whose result has dims of its own.

    Args:
        together: W.
        dims: of the result, without the tokens.
    """

    together: int = 1
    dims: tuple[int, ...] = ()

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, self.together)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return super().compute(s, self._split(inputs[0])).reshape(len(inputs[0]), *self.dims)

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        x = self._split(inputs[0])
        if before is not None:
            before = Spread(
                *(self._split(part.expand_as(inputs[0])) for part in (before.explained, before.floor))
            )
        found = super().spread(s, rounding, self._split(y), x, before=before)
        return Spread(
            found.explained.expand_as(x).reshape(y.shape), found.floor.expand_as(x).reshape(y.shape)
        )
