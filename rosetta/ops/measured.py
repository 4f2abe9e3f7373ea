"""How far a result without a law of its own strays: measured, with weights and values moved at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosetta.lazily import torch
from rosetta.ops.op import Op, Rounding, Spread, Step, nothing, unit_of
from rosetta.weight_cache import WeightCache

if TYPE_CHECKING:
    from torch import Tensor

DRAWS, STRAY, NEIGHBOURS = 4, 2.0**-20, 0.25
"""How many runs measure a spread, by how much values stray in them, and how much of an element's variance is that of
its neighbours in the last dimension: so few runs may find an element to stray by next to nothing."""


class Moved(Step):
    """A step in float64 whose weights and intermediate values stray at random: what an operation without a law of its
    own is measured with.

    Args:
        s: the step as it is.
        draw: of the random numbers.
        weights: what is known of the weights' rounding; None: they stay.
        relative: standard deviation of what an operation rounds its intermediate values by, relative.
    """

    def __init__(
        self, s: Step, draw: torch.Generator, weights: Rounding | None = None, relative: float = 0.0
    ) -> None:
        super().__init__(s.model, s.layer, WeightCache(s.cache.device, torch.float64, s.cache.kept))
        self.draw, self.rounding, self.relative = draw, weights, relative

    def weight(self, name: str) -> Tensor:
        found, full = super().weight(name), self.full_name(name)
        if self.rounding is None or not self.rounding.explains(full):
            return found
        variance = self.rounding.variance(full, self.cache).double().reshape(found.shape)
        return found + variance.sqrt() * self._noise(found)

    def rounded(self, x: Tensor) -> Tensor:
        return x * (1 + self.relative * self._noise(x)) if self.relative else x

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.draw, dtype=torch.float64).to(like.device)


def measured(
    op: Op, s: Step, rounding: Rounding, *inputs: Tensor, units: float, before: Spread | None = None
) -> Spread:
    """How far a result without a law strays, measured in float64 with weights and values moved at random, seeded.

    Args:
        op: the operation, whose `compute` passes every value that it carries on through `Step.rounded`.
        s: the reference's step.
        rounding: of both sides' weights and arithmetic.
        inputs: what it is computed from.
        units: how many of `unit_of` each value strays by.
        before: how far the first input strays already.
    """
    draw = torch.Generator().manual_seed(0)
    doubles = [x.double() if x.is_floating_point() else x for x in inputs]
    exact = op.compute(Moved(s, draw), *doubles)

    def variance(weights: Rounding | None, relative: float, first: Tensor | None) -> Tensor:
        total = torch.zeros_like(exact)
        for _ in range(DRAWS):
            moved = Moved(s, draw, weights, relative)
            given = [moved.rounded(x) for x in doubles]
            if first is not None:
                given[0] = given[0] + first.double() * moved._noise(given[0])
            total += (op.compute(moved, *given) - exact).square()
        mean = total / DRAWS
        return mean + NEIGHBOURS * mean.mean(-1, keepdim=True)

    reads = op.tensors(s.settings)
    explained = any(rounding.explains(s.full_name(name)) for name in (*reads.required, *reads.optional))
    strays = None if before is None else before.explained.sqrt()
    found = nothing(exact)
    if explained or strays is not None:
        found = variance(rounding, 0.0, strays).float()
    floor = variance(None, STRAY, None).sqrt() * (units * unit_of(rounding) / STRAY)
    if before is not None:
        floor = torch.hypot(floor, variance(None, 0.0, before.floor).sqrt())
    return Spread(found, floor.float())
