"""Predicted noise: the local error of a stage that the declared dtypes and the arithmetic alone explain.

For each output element: σ² = Σⱼ xⱼ² (σ²ₗ + σ²ᵣ), each weight's σ from its own block's step, plus the floor of the
arithmetic. What that is for an operation is said beside its maths, in `ops/`; what is known of the weights, here.
The laws and the constants are measured: docs/noise.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta.compare.local_error import Sums
from rosetta.compare.weights import WeightPair
from rosetta.graph import Node
from rosetta.model import Model
from rosetta.ops.op import Part, Rounding, Step
from rosetta.runtimes.runtime import Runtime
from rosetta.weight_cache import WeightCache
from rosetta.workers import spread


@dataclass(frozen=True)
class RoundingOfPair:
    """What is known of the rounding where both sides have weights.

    Args:
        reference, subject: the models.
        pairs: what the comparison of each weight found, by full canonical name.
        dtype: of the arithmetic.
    """

    reference: Model
    subject: Model
    pairs: Mapping[str, WeightPair]
    dtype: torch.dtype

    def explains(self, name: str) -> bool:
        """See `Rounding`."""
        pair = self.pairs.get(name)
        return pair is not None and pair.explained

    def variance(self, name: str, cache: WeightCache, start: int = 0, stop: int | None = None) -> Tensor:
        """See `Rounding`."""
        copies = self.reference.weights[name], self.subject.weights[name]
        explained = cache.kept.variance(*copies, start, stop, cache.device)
        found = self.pairs[name]
        if found.widening != 1.0:
            explained = explained * found.widening
        if found.strayed is not None:
            explained = explained * found.strayed.to(explained.device)
        return explained if found.salient is None else found.salient.widened(explained, start)

    def explained(self, name: str, cache: WeightCache, x: Tensor, rows: tuple[int, int]) -> Tensor:
        """See `Rounding`."""
        copies, found = (self.reference.weights[name], self.subject.weights[name]), self.pairs[name]
        plain = found.salient is None and found.strayed is None
        known = cache.kept.explained(*copies, x) if plain else None
        if known is not None:
            explained = known[:, slice(*rows)] * found.widening
        else:
            explained = x.float().square() @ self.variance(name, cache, *rows).T
        if found.widening == 1.0:
            return explained
        # Errors that make others good hang together from column to column, in all rows alike: what they add up to in
        # these inputs is seen from the rows together, and not from each error's size.
        a, b = (cache.rows(copy, *rows) for copy in copies)
        return torch.maximum(explained, (x.float() @ (a - b).T).square_().mean(-1, keepdim=True))

    def row_variance(self, name: str, rows: Sequence[int]) -> list[Tensor]:
        """See `Rounding`."""
        return [model.weights[name].sigma_rows(rows).square() for model in (self.reference, self.subject)]

    def agree(self, key: str) -> bool:
        """See `Rounding`."""
        return stated_alike(key, self.reference, self.subject)


@dataclass(frozen=True)
class RoundingOfObserved:
    """What is known of the rounding where the reference was observed, and told how coarse its weights were.

    Args:
        observed: the reference.
        subject: the model beside it.
        dtype: of the arithmetic that was observed: recordings hold float32, whatever the subject is computed in.
    """

    observed: Runtime
    subject: Model
    dtype: torch.dtype = torch.float32

    def explains(self, name: str) -> bool:
        """See `Rounding`."""
        own = self.subject.weights.get(name)
        return own is not None and self.observed.input_rounding(own) != 0

    def variance(self, name: str, cache: WeightCache, start: int = 0, stop: int | None = None) -> Tensor:
        """See `Rounding`."""
        own = self.subject.weights[name]
        of_inputs = self.observed.input_rounding(own)
        if of_inputs is not None:  # Σ W² σ² for the Σ W² x² that is made of it
            rows = own.values(start, stop, cache.device) if stop is None else cache.rows(own, start, stop)
            return rows.square().mul_(of_inputs**2)
        recorded = self.observed.rounding(name, lambda: own.values(start, stop, cache.device))
        return own.variance(start, stop, cache.device).add_(recorded.square())

    def explained(self, name: str, cache: WeightCache, x: Tensor, rows: tuple[int, int]) -> Tensor:
        """See `Rounding`."""
        return x.float().square() @ self.variance(name, cache, *rows).T

    def row_variance(self, name: str, rows: Sequence[int]) -> list[Tensor]:
        """See `Rounding`."""
        own = self.subject.weights[name]
        if self.observed.input_rounding(own) is not None:
            return []
        sigma = own.sigma_rows(rows)
        return [
            sigma.square(),
            self.observed.rounding(name, lambda: own.rows(rows)).expand_as(sigma).square(),
        ]

    def agree(self, key: str) -> bool:
        """See `Rounding`."""
        return stated_alike(key, self.observed.model, self.subject)


def stated_alike(key: str, a: Model, b: Model) -> bool:
    """Whether two models have the very same value of a setting, or neither has one."""
    stated = [model.config.get(key) for model in (a, b)]
    return len({found.value if found else None for found in stated}) == 1


def local_parts(
    node: Node,
    step: Step,
    rounding: Rounding,
    inputs: Sequence[Tensor],
    a: Tensor,
    b: Tensor,
    doubt: Tensor | None = None,
) -> list[Sums]:
    """A stage's local error beside its prediction, in parts; see `local_error`.

    Args:
        node: the stage.
        step: of the believed side.
        rounding: of both sides.
        inputs: the reference's.
        a: the reference's value of the stage.
        b: the subject's from the same inputs, of the same shape and device.
        doubt: standard deviation of the stage because of inputs that were not observed, see `doubt`; None: all were.
    """
    if not a.numel():
        return []

    def judged(part: Part) -> Sums:
        x, y, sigma = part.of(a), part.of(b), part.sigma()
        if doubt is not None:
            sigma = torch.hypot(sigma.expand_as(x).float(), part.of(doubt))
        return Sums.of((y - x).float(), sigma, x, node.op.token_axis)

    return spread(judged, node.op.parts(step, rounding, a, *inputs))
