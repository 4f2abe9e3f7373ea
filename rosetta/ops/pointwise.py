"""Operations on each element by itself: sums, activations.

Letters: T = tokens, H = features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import functional as F
from rosetta.lazily import torch
from rosetta.ops.op import ELEMENTWISE_UNITS, Op, Rounding, Settings, Size, Spread, Step, nothing, unit_of
from rosetta.workers import sum_of_squares

if TYPE_CHECKING:
    from torch import Tensor

ADD_UNITS, ACTIVATION_UNITS = 1.0, 7.0  # float32 floors, see `linear.UNITS`

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": lambda x: F.silu(x),
    "gelu": lambda x: F.gelu(x),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": lambda x: F.relu(x),
    "relu_squared": lambda x: F.relu(x).square(),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # Hendrycks and Gimpel 2016
    "sigmoid": lambda x: torch.sigmoid(x),
    "linear": lambda x: x,
}

# x / 2 + x / 2 · erf: left of zero the two cancel, and leave their rounding.
CANCELLING = ("gelu", "gelu_tanh")


def activation_spread(y: Tensor, terms: Tensor, rounding: Rounding) -> Spread:
    """How far an activation may stray: units of its terms' rounding, and never less than those of a tenth of the
    result's root mean square, because what is near zero came of inputs that were rounded for their size.

    Args:
        y: result.
        terms: sizes of what was summed for it, shaped as it is.
        rounding: of both sides.
    """
    least = math.sqrt(sum_of_squares(y) / y.numel()) * 0.1 if y.numel() else 0.0
    floor = ACTIVATION_UNITS * unit_of(rounding) * terms.maximum(terms.new_tensor(least))
    return Spread(nothing(y), floor)


@dataclass(frozen=True)
class Add(Op):
    """The sum of stages, the first one and the others times a factor.

    Args:
        scale: config key of the factor; None: it is 1.
    """

    scale: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return () if self.scale is None else (self.scale,)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        y, *others = inputs
        for x in others:
            y = y + (x if self.scale is None else x * s[self.scale])
        return y

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        floor = ADD_UNITS * unit_of(rounding) * y.float().abs()
        if len(inputs) > 2 or self.scale is not None:  # what cancels leaves the rounding of its terms
            terms = torch.stack([x.float().abs() for x in inputs]).sum(0)
            floor = ADD_UNITS * unit_of(rounding) * terms
        return Spread(nothing(y), floor)


@dataclass(frozen=True)
class WeightedSum(Op):
    """The sum of stages, each times a number that no setting says.

    Args:
        factors: the numbers; a stage whose number is 0 takes no part.
    """

    factors: tuple[float, ...]

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        y, *others = (
            x if factor == 1 else x * factor for x, factor in zip(inputs, self.factors, strict=True)
        )
        for x in others:
            y = y + x
        return y

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        terms = torch.stack(
            [x.float().abs() * abs(f) for x, f in zip(inputs, self.factors, strict=True)]
        ).sum(0)
        return Spread(nothing(y), ADD_UNITS * unit_of(rounding) * terms)


@dataclass(frozen=True)
class Elementwise(Op):
    """An operation on each element of one input: what comes before in a chain is stretched by so much at most."""

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        own = ELEMENTWISE_UNITS * unit_of(rounding) * y.float().abs()
        if before is None:
            return Spread(nothing(y), own)
        stretch = self.stretch(s) or 0.0
        return Spread(
            before.explained.reshape(_shape(before.explained, y)) * stretch**2,
            before.floor.reshape(_shape(before.floor, y)) * stretch + own,
        )


def _shape(part: Tensor, y: Tensor) -> tuple[int, ...]:
    """The result's shape for what has as many elements; what is broadcast stays."""
    return tuple(y.shape) if part.numel() == y.numel() else tuple(part.shape)


@dataclass(frozen=True)
class Scale(Elementwise):
    """x times, or by, a setting.

    Args:
        by: config key of the factor.
        inverse: whether it is divided by.
    """

    by: str
    inverse: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.by,)

    def stretch(self, s: Step) -> float:
        factor = abs(float(s[self.by]))
        return 1 / factor if self.inverse else factor

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        factor = float(s[self.by])
        return inputs[0] / factor if self.inverse else inputs[0] * factor


@dataclass(frozen=True)
class Times(Elementwise):
    """x times a number that no setting says.

    Args:
        factor: the number.
    """

    factor: float

    def stretch(self, s: Step) -> float:
        return abs(self.factor)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return inputs[0] * self.factor


@dataclass(frozen=True)
class Softcap(Elementwise):
    """c·tanh(x/c); x where c is 0.

    Args:
        cap: config key of c.
    """

    cap: str

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.cap,)

    def stretch(self, s: Step) -> float:
        return 1.0

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        cap = float(s[self.cap])
        return (inputs[0] / cap).tanh() * cap if cap else inputs[0]


@dataclass(frozen=True)
class Clamp(Elementwise):
    """x held between −c and c; x where c is 0.

    Args:
        limit: config key of c.
    """

    limit: str

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.limit,)

    def stretch(self, s: Step) -> float:
        return 1.0

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        limit = float(s[self.limit])
        return inputs[0].clamp(-limit, limit) if limit else inputs[0]


@dataclass(frozen=True)
class Heads(Elementwise):
    """The same values as [T, N, D].

    Args:
        count: config key of N.
        length: config key of D, where the config has one.
    """

    count: str
    length: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.count,)

    @property
    def shape(self) -> tuple[Size, ...]:
        return () if self.length is None else (self.count, self.length)

    def stretch(
        self, s: Step
    ) -> None:  # the shape is another one: its parts are not those of what comes before
        return None

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return inputs[0].reshape(len(inputs[0]), s[self.count], -1)

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        if before is None:
            return Spread(nothing(y), nothing(y))
        return Spread(*(part.reshape(_shape(part, y)) for part in (before.explained, before.floor)))


GATES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda x: torch.sigmoid(x),
    "silu": lambda x: F.silu(x),
    "softplus": lambda x: F.softplus(x),
    "tanh": lambda x: torch.tanh(x),
    "linear": lambda x: x,
    "none": lambda x: torch.ones_like(x),
}


@dataclass(frozen=True)
class Gate(Op):
    """x · gate(g) of two inputs x and g; g may be one number a head or a token.

    Args:
        function: of g.
    """

    function: str = "sigmoid"

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        x, gate = inputs
        gate = GATES[self.function](gate)
        if gate.numel() == x.numel():
            return x * gate.reshape(x.shape)
        return (x.view(len(x), gate[0].numel(), -1) * gate.reshape(len(x), -1, 1)).reshape(x.shape)

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        return Spread(nothing(y), ACTIVATION_UNITS * unit_of(rounding) * y.float().abs())


@dataclass(frozen=True)
class Activation(Op):
    """act(gate) · up of two inputs, act(up) of one.

    Args:
        key: config key of the activation's name.
        exchanged: whether gate and up are taken for each other.
    """

    key: str = "activation"
    exchanged: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        inputs = self._in_roles(inputs)
        y, up = ACTIVATIONS[s[self.key]](inputs[0]), self.factor(*inputs)
        return y if up is None else y * up

    def _in_roles(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the activation is taken of, and what is multiplied with it."""
        return inputs[::-1] if self.exchanged else inputs

    def entering(self, c: Settings, gate: Tensor) -> tuple[Tensor, Tensor]:
        """What the activation is taken of, and how far the rounding of that in float32 goes."""
        return gate, gate.new_zeros(())

    def factor(self, *inputs: Tensor) -> Tensor | None:
        """What the activation is multiplied by; None where there is nothing."""
        return inputs[1] if len(inputs) > 1 else None

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        terms, inputs = y.float().abs(), self._in_roles(inputs)
        if s[self.key] in CANCELLING:
            half, up = self.entering(s.settings, inputs[0])[0].float().abs() / 2, self.factor(*inputs)
            terms = terms.maximum(half if up is None else half * up.float().abs())
        return activation_spread(y, terms, rounding)


@dataclass(frozen=True)
class LayerGate(Activation):
    """act(g) times a layer's part of the embeddings that each layer has one of: [T, P] and [T, L, P] -> [T, P].

    Args:
        layer: which one it is.
    """

    layer: int = 0

    def factor(self, *inputs: Tensor) -> Tensor:
        """The layer's part."""
        return inputs[1][:, self.layer]
