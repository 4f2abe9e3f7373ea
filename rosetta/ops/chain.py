"""Operations one after another within one stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.ops.op import (
    ELEMENTWISE_UNITS,
    Op,
    Part,
    Rounding,
    Settings,
    Size,
    Spread,
    Step,
    Tensors,
    unit_of,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Chain(Op):
    """Operations one after another within one stage: a projection and the norm of its heads.

    Args:
        ops: the first takes the stage's inputs, each other one the result of the one before.
    """

    ops: tuple[Op, ...]

    @property
    def links(self) -> tuple[Op, ...]:
        return self.ops

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for op in self.ops for key in op.keys))

    @property
    def shape(self) -> tuple[Size, ...]:
        return next((op.shape for op in reversed(self.ops) if op.shape), ())

    def tensors(self, c: Settings) -> Tensors:
        found = Tensors()
        for op in self.ops:
            found = found + op.tensors(c)
        return found

    def _active(self, s: Step) -> list[Op]:
        return [op for op in self.ops if op.takes_part(s)]

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        first, *others = self._active(s)
        y = first.compute(s, *inputs)
        for op in others:
            y = op.compute(s, y)
        return y

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        first, *others = self._active(s)
        value = first.compute(s, *inputs) if others else y
        found = first.spread(s, rounding, value, *inputs, before=before)
        for op in others:
            result = y if op is others[-1] else op.compute(s, value)
            found = op.spread(s, rounding, result, value, before=found)
            value = result
        return found

    def parts(self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor) -> list[Part]:
        first, *others = self._active(s)
        if all(op.stretch(s) is not None for op in others):
            return [
                self._stretched(s, rounding, y, part, others) for part in first.parts(s, rounding, y, *inputs)
            ]
        return super().parts(s, rounding, y, *inputs)

    def _stretched(self, s: Step, rounding: Rounding, y: Tensor, part: Part, others: Sequence[Op]) -> Part:
        """A part of the first operation's result, and what the elementwise ones behind it make of its spread."""
        if not others:
            return part
        factor, unit = math.prod(op.stretch(s) or 0.0 for op in others), unit_of(rounding)

        def sigma() -> Tensor:
            return part.sigma() * factor + len(others) * ELEMENTWISE_UNITS * unit * part.of(y).float().abs()

        return Part(part.of, sigma)


def chain(*ops: Op | None) -> Op:
    """The operations one after another; those that are None are left out."""
    present = tuple(op for op in ops if op is not None)
    return present[0] if len(present) == 1 else Chain(present)
