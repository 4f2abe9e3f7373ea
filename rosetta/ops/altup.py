"""Alternating updates (Baykal et al. 2023, as Gemma 3n has them): several streams of hidden states, of which a layer
computes one and predicts and corrects the others.

Letters: T = tokens, A = streams, H = embedding length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import torch
from rosetta.ops.linear import Linear
from rosetta.ops.op import (
    ELEMENTWISE_UNITS,
    HALF_ULP,
    Op,
    Rounding,
    Settings,
    Spread,
    Step,
    Tensors,
    nothing,
    size,
    unit_of,
)
from rosetta.ops.pointwise import Activation, Elementwise

if TYPE_CHECKING:
    from torch import Tensor

COUNT, ACTIVE, HIDDEN = "altup.num_inputs", "altup.active_idx", "embedding_length"
SMALLEST = 1e-5  # transformers, modeling_gemma3n: least mean square that is divided by
MIX_UNITS = 5.0  # of a sum over few streams, as a product's


def _magnitude(x: Tensor) -> Tensor:
    return x.square().mean(-1, keepdim=True).clamp_min(SMALLEST).sqrt()


@dataclass(frozen=True)
class Stream(Elementwise):
    """The active stream, [T, A, H] -> [T, H]."""

    @property
    def keys(self) -> tuple[str, ...]:
        return (ACTIVE,)

    def stretch(self, s: Step) -> None:  # the shape is another one
        return None

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return inputs[0][:, s[ACTIVE]]

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        return Spread(nothing(y), torch.zeros_like(y, dtype=torch.float32))


@dataclass(frozen=True)
class Tanh(Elementwise):
    """tanh(x)."""

    def stretch(self, s: Step) -> float:
        return 1.0

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return inputs[0].tanh()


@dataclass(frozen=True)
class Streams(Op):
    """Further streams of one: its products with a matrix each, as long as itself, [T, H] -> [T, A, H]."""

    stem: str = "altup_proj"

    @property
    def keys(self) -> tuple[str, ...]:
        return (COUNT,)

    def _products(self, streams: int) -> list[Linear]:
        return [
            Linear(f"{self.stem}.{i}", rows=HIDDEN, columns=HIDDEN, bias=False) for i in range(streams - 1)
        ]

    def tensors(self, c: Settings) -> Tensors:
        found = Tensors()
        for product in self._products(size(c, COUNT)):
            found = found + product.tensors(c)
        return found

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        [x] = inputs
        others = [product.compute(s, x) for product in self._products(s[COUNT])]
        return torch.stack([x, *(y * _magnitude(x) / _magnitude(y) for y in others)], dim=1)

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        [x] = inputs
        own = [torch.zeros_like(x, dtype=torch.float32)]
        explained, floor = [*own], [*own]
        for i, product in enumerate(self._products(s[COUNT])):
            found = product.spread(s, rounding, product.compute(s, x), x)
            scaled = _scaled(found, product.compute(s, x), x, y[:, i + 1], rounding)
            explained.append(scaled.explained)
            floor.append(scaled.floor)
        return Spread(torch.stack(explained, 1), torch.stack(floor, 1))


@dataclass(frozen=True)
class MergedStreams(Op):
    """The mean of the first stream and of the products of the others with a matrix each, as long as the active one:
    [T, A, H] -> [T, H]."""

    stem: str = "altup_unembd_proj"

    @property
    def keys(self) -> tuple[str, ...]:
        return ACTIVE, COUNT

    def tensors(self, c: Settings) -> Tensors:
        return Streams(self.stem).tensors(c)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        [x] = inputs
        total, active = x[:, 0], x[:, s[ACTIVE]]
        for i, product in enumerate(Streams(self.stem)._products(s[COUNT])):
            y = product.compute(s, x[:, i + 1])
            total = total + y * _magnitude(active) / _magnitude(y)
        return total / int(s[COUNT])

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        [x] = inputs
        active, count = x[:, s[ACTIVE]], int(s[COUNT])
        explained = torch.zeros_like(y, dtype=torch.float32)
        floor = ELEMENTWISE_UNITS * unit_of(rounding) * x.float().abs().sum(1) / count
        for i, product in enumerate(Streams(self.stem)._products(count)):
            z = product.compute(s, x[:, i + 1])
            matched = z * _magnitude(active) / _magnitude(z)
            found = _scaled(product.spread(s, rounding, z, x[:, i + 1]), z, active, matched, rounding)
            explained, floor = explained + found.explained / count**2, floor + found.floor / count
        return Spread(explained, floor)


def _scaled(found: Spread, product: Tensor, like: Tensor, y: Tensor, rounding: Rounding) -> Spread:
    """How far a product that is made as long as another vector may stray."""
    ratio = (_magnitude(like) / _magnitude(product)).float()
    # What it is divided by carries the noise of all of it: as much as its own share of the length.
    share = y.float().square() / y.float().square().sum(-1, keepdim=True).clamp_min(1e-30)
    explained = found.explained * ratio.square()
    whole = share * explained.sum(-1, keepdim=True) if explained.dim() else explained
    return Spread(
        explained + whole, found.floor * ratio + ELEMENTWISE_UNITS * unit_of(rounding) * y.float().abs()
    )


@dataclass(frozen=True)
class Predicted(Op):
    """Each stream plus a mixture of all: [T, A, H] and coefficients [T, A·A] -> [T, A, H]."""

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        x, coefficients = inputs
        return coefficients.view(len(x), x.shape[1], x.shape[1]) @ x + x

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        x, coefficients = (value.float().abs() for value in inputs)
        terms = coefficients.view(len(x), x.shape[1], x.shape[1]) @ x + x
        return Spread(nothing(y), MIX_UNITS * unit_of(rounding) * terms)


@dataclass(frozen=True)
class Corrected(Op):
    """Predictions plus what the layer made of the active one, each by a factor: [T, A, H], [T, H] and [T, A] ->
    [T, A, H]."""

    @property
    def keys(self) -> tuple[str, ...]:
        return (ACTIVE,)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        predictions, activated, coefficients = inputs
        innovation = activated - predictions[:, s[ACTIVE]]
        return predictions + innovation[:, None] * (coefficients + 1)[..., None]

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        predictions, activated, coefficients = (value.float().abs() for value in inputs)
        innovation = activated + predictions[:, s[ACTIVE]]
        terms = predictions + innovation[:, None] * (coefficients + 1)[..., None]
        return Spread(nothing(y), MIX_UNITS * unit_of(rounding) * terms)


@dataclass(frozen=True)
class AddToOthers(Op):
    """A vector added to all streams but the first: [T, A, H] and [T, H] -> [T, A, H]."""

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        x, added = inputs
        return torch.cat([x[:, :1], x[:, 1:] + added[:, None]], dim=1)

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        return Spread(nothing(y), unit_of(rounding) * y.float().abs())


@dataclass(frozen=True)
class SparseActivation(Activation):
    """act(relu(g − mean − σ·std)) · up, over the last dimension of g; act(g) · up where σ is 0.

    Args:
        scale: config key of σ.
        sample: config key of whether the variance is a sample's, divided by one less than how many there are.
    """

    scale: str = "activation_sparsity_scale"
    sample: str = "activation_sparsity_of_sample"

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key, self.scale, self.sample)

    def entering(self, c: Settings, gate: Tensor) -> tuple[Tensor, Tensor]:
        """See `Activation`: the cutoff is subtracted, and what is left carries the rounding of the whole gate."""
        scale = float(c[self.scale])
        if not scale:
            return super().entering(c, gate)
        std = gate.std(-1, keepdim=True, correction=1 if c[self.sample] else 0)
        kept = (gate - gate.mean(-1, keepdim=True) - std * scale).relu()
        x = gate.float()
        size = x.abs().maximum(x.square().mean(-1, keepdim=True).sqrt() * scale)
        return kept, 2 * ELEMENTWISE_UNITS * HALF_ULP[torch.float32] * size

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        gate, up = inputs
        return super().compute(s, self.entering(s.settings, gate)[0], up)

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        gate, up = inputs
        kept, stray = self.entering(s.settings, gate)
        found = super().spread(s, rounding, y, kept, up)
        own = stray * (unit_of(rounding) / HALF_ULP[torch.float32]) * up.float().abs()
        return Spread(found.explained, found.floor + own)
