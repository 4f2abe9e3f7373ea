"""How well a stage is known that an observed run does not show.

Our side computes it in the run's place, and the run itself may have had it otherwise by as much as dtypes and
arithmetic explain. What is computed from it is then known no better: the doubt is carried on by computing each stage
from inputs that stray by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from rosetta.graph import Node
from rosetta.ops.op import NotComputable, Rounding, Step

ROUTING = ".ffn_router"
DRAWS = 4
"""Of random signs. A row of a stage has dozens of elements, so that its mean of squares is known to some percent."""


class Doubt:
    """The standard deviations of the stages that the observed run does not show, by full name.

    Args:
        sigmas: those known so far.
        coarser: the float in which the run was seen to compute: what it does not show it may compute so as well.
    """

    def __init__(
        self, sigmas: Mapping[str, Tensor] | None = None, coarser: torch.dtype | None = None
    ) -> None:
        self.sigmas, self.coarser = dict(sigmas or {}), coarser

    def copied(self) -> Doubt:
        """The same, to go on from."""
        return Doubt(self.sigmas, self.coarser)

    def adopt(self, other: Doubt, stage: str) -> None:
        """Take over what another run knows of a stage."""
        if stage in other.sigmas:
            self.sigmas[stage] = other.sigmas[stage]

    def forget(self, names: Sequence[str]) -> None:
        """Drop stages that nothing is computed from any more."""
        for name in names:
            self.sigmas.pop(name, None)

    def learn(
        self,
        node: Node,
        step: Step,
        rounding: Rounding,
        value: Tensor,
        inputs: Sequence[Tensor],
        compute: Callable[[Sequence[Tensor]], Tensor],
        strays: Sequence[Tensor] = (),
    ) -> None:
        """Take note of a stage that was computed in the run's place.

        Args:
            node: the stage.
            step, rounding: of both sides, see `Op.spread`.
            value: of the stage.
            inputs: that it was computed from.
            compute: the stage from its inputs.
            strays: see `carried`.
        """
        with torch.inference_mode():
            own = node.op.spread(step, rounding, value, *inputs).sigma.expand_as(value)
        carried = self.carried(node, inputs, compute, strays)
        self.sigmas[node.name] = own if carried is None else torch.hypot(own, carried)

    def carried(
        self,
        node: Node,
        inputs: Sequence[Tensor],
        compute: Callable[[Sequence[Tensor]], Tensor],
        strays: Sequence[Tensor] = (),
    ) -> Tensor | None:
        """By how much a stage may stray because its inputs may, shaped as the stage; None where they are known.

        Args:
            node, inputs, compute: see `learn`.
            strays: standard deviations of what the run rounds of each input; none: it rounds nothing.
        """
        sigmas = [
            None if sigma is None else _shaped(sigma, x)
            for sigma, x in zip(map(self.sigmas.get, node.inputs), inputs, strict=True)
        ]
        if strays:
            sigmas = [
                more if sigma is None else torch.hypot(sigma.to(more), more)
                for sigma, more in zip(sigmas, strays, strict=True)
            ]
        if all(sigma is None for sigma in sigmas):
            return None
        draw = torch.Generator().manual_seed(0)
        try:
            still = compute(inputs).double()
            total = torch.zeros_like(still)
            for _ in range(DRAWS):
                moved = [
                    x if sigma is None else _strayed(x, sigma, draw, name.endswith(ROUTING))
                    for name, x, sigma in zip(node.inputs, inputs, sigmas, strict=True)
                ]
                total += (compute(moved).double() - still).square()
        except NotComputable:
            return None
        variance = total / DRAWS
        return torch.maximum(variance, variance.mean(-1, keepdim=True)).sqrt().float()


def _shaped(sigma: Tensor, x: Tensor) -> Tensor:
    """A stage's standard deviations; of one that a repair gives other dims (more experts), their size on the whole."""
    return sigma if sigma.shape == x.shape else sigma.square().mean().sqrt().expand(x.shape)


def _strayed(x: Tensor, sigma: Tensor, draw: torch.Generator, routing: bool) -> Tensor:
    """A stage off by its standard deviation, up or down at random; what is not chosen of experts stays nothing, as it
    would count as chosen if it counted at all."""
    signs = torch.randint(0, 2, x.shape, generator=draw).to(x) * 2 - 1
    strayed = x + sigma.to(x) * signs
    return strayed.where(x != 0, x) if routing else strayed
