"""What opens and closes the operations that carry a state from token to token (`state_space`, `delta_rule`): their
settings, convolutions, gated norms.

Letters: T = tokens, C = channels, K = taps of a convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rosetta.lazily import functional as F
from rosetta.lazily import torch
from rosetta.ops.measured import measured
from rosetta.ops.norm import normalised
from rosetta.ops.op import Op, Rounding, Settings, Size, Spread, Step, Sum, Tensors, keys_of, nothing, size
from rosetta.ops.pointwise import ACTIVATIONS, Elementwise

if TYPE_CHECKING:
    from torch import Tensor

# Floors in units of half a unit in the last place, see `linear.UNITS`, of values that stray at random (`op.measured`).
CONVOLUTION_UNITS, SCAN_UNITS, GATE_UNITS = 2.0, 4.0, 4.0

INNER, STATE, GROUPS, RANK = "ssm.inner_size", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank"
KERNEL = "ssm.conv_kernel"
SMALLEST, LARGEST = "ssm.time_step_min", "ssm.time_step_max"
HEAD = "ssm.head_dim"  # which no operation reads: it follows from inner size and heads
MIXED = Sum((INNER, (2, GROUPS, STATE)))
"""Channels of what is read by, written by and carried, side by side: of Mamba-2 and of delta rules."""
FUSED = Sum(((2, INNER), (2, GROUPS, STATE), RANK))
"""Rows of Mamba-2's projection: gate, `MIXED`, time steps."""


@dataclass(frozen=True)
class Columns(Elementwise):
    """Some of the columns: [T, C] -> [T, count].

    Args:
        first, count: which.
    """

    first: Size
    count: Size

    @property
    def keys(self) -> tuple[str, ...]:
        return (*keys_of(self.first), *keys_of(self.count))

    @property
    def shape(self) -> tuple[Size, ...]:
        return (self.count,)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        first = size(s.settings, self.first)
        return inputs[0][:, first : first + size(s.settings, self.count)]

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        if before is None:
            return Spread(nothing(y), nothing(y))
        cut = [self.compute(s, part.expand_as(inputs[0])) for part in (before.explained, before.floor)]
        return Spread(*cut)


@dataclass(frozen=True)
class Measured(Op):
    """An operation whose spread is measured, not predicted by a law."""

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        return measured(self, s, rounding, *inputs, units=self.units, before=before)

    @property
    def units(self) -> float:
        """See `op.measured`."""
        return SCAN_UNITS


@dataclass(frozen=True)
class Convolution(Measured):
    """Each channel's last K tokens weighed and summed: [T, …] -> [T, C].

    Args:
        stem: of the weights' names, [C, K].
        channels: C.
        kernel: config key of K.
        first: column of the input where the channels begin.
        activated: whether an activation follows.
        activation: config key of its name; None: it is a SiLU.
        gate: column of the input where what the channels are multiplied with begins; None: nothing is.
        ahead: how many tokens behind its own each token sees, of all tokens at once; -1: not itself either.
    """

    stem: str = "ssm_conv1d"
    channels: Size = MIXED
    kernel: str = KERNEL
    first: Size = 0
    activated: bool = True
    gate: Size | None = None
    activation: str | None = None
    ahead: int = 0

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.kernel,) if self.activation is None else (self.kernel, self.activation)

    @property
    def shape(self) -> tuple[Size, ...]:
        return (self.channels,)

    @property
    def units(self) -> float:
        return CONVOLUTION_UNITS

    def tensors(self, c: Settings) -> Tensors:
        channels, taps = size(c, self.channels), size(c, self.kernel)
        return Tensors({f"{self.stem}.weight": (channels, taps)}, {f"{self.stem}.bias": (channels,)})

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        channels, taps = size(s.settings, self.channels), int(s[self.kernel])
        x = cut(inputs[0], size(s.settings, self.first), channels)
        if self.gate is not None:
            x = s.rounded(x * cut(inputs[0], size(s.settings, self.gate), channels))
        before = s.state(self.stem, x.new_zeros(taps - 1, channels))
        seen = torch.cat([before, x])
        s.leave(self.stem, seen[len(seen) - (taps - 1) :])
        if self.ahead:
            seen = F.pad(seen, (0, 0, max(-self.ahead, 0), max(self.ahead, 0)))
            seen = seen[max(self.ahead, 0) :][: len(x) + taps - 1]
        y = convolved(seen, s.weight(f"{self.stem}.weight"))
        bias = s.optional(f"{self.stem}.bias")
        y = s.rounded(y if bias is None else y + bias)
        act = F.silu if self.activation is None else ACTIVATIONS[s[self.activation]]
        return act(y) if self.activated else y


def convolved(seen: Tensor, weight: Tensor) -> Tensor:
    """Each channel's last K tokens weighed and summed.

    Args:
        seen: [K − 1 + T, C], the tokens before the first one included.
        weight: [C, K], that of the token itself last.
    """
    taps = weight.shape[1]
    tokens = len(seen) - taps + 1
    return sum((seen[j : j + tokens] * weight[:, j] for j in range(taps)), seen.new_zeros(()))


def cut(x: Tensor, first: int, count: int) -> Tensor:
    """So many columns of x from the first on."""
    return x[:, first : first + count]


OPENED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": lambda gate: F.silu(gate),
    "sigmoid": lambda gate: torch.sigmoid(gate),
    "identity": lambda gate: gate,
    "none": lambda gate: torch.ones_like(gate),
}


@dataclass(frozen=True)
class GatedNorm(Measured):
    """A norm of each head or group and a gate: [T, …], and the gate's [T, …] or columns of it, -> [T, C].

    Args:
        stem: of the norm's weight; None: there is no norm.
        epsilon: config key.
        width: dims of the weight.
        channels: C.
        function: of the gate.
        first: column of the second input where the gate begins.
        gate_first: whether the norm is of what has passed the gate.
        optional: whether the norm is left out where the file has no weight for it.
    """

    stem: str | None
    epsilon: str
    width: tuple[Size, ...] = (STATE,)
    channels: Size = INNER
    function: Literal["silu", "sigmoid", "identity", "none"] = "silu"
    first: Size = 0
    gate_first: bool = False
    optional: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return () if self.stem is None else (self.epsilon,)

    @property
    def shape(self) -> tuple[Size, ...]:
        return (self.channels,)

    @property
    def units(self) -> float:
        return GATE_UNITS

    def tensors(self, c: Settings) -> Tensors:
        if self.stem is None:
            return Tensors()
        weight = {f"{self.stem}.weight": tuple(size(c, width) for width in self.width)}
        return Tensors({}, weight) if self.optional else Tensors(weight)

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        x, gate = inputs
        channels = size(s.settings, self.channels)
        x = x.reshape(len(x), -1)
        gate = cut(gate.reshape(len(gate), -1), size(s.settings, self.first), channels)
        opened = OPENED[self.function](gate)
        if self.gate_first:
            return self._normed(s, x * opened)
        return s.rounded(self._normed(s, x)) * opened

    def _normed(self, s: Step, x: Tensor) -> Tensor:
        if self.stem is None or (self.optional and not s.has(f"{self.stem}.weight")):
            return x
        weight = s.weight(f"{self.stem}.weight")
        heads = x.reshape(len(x), -1, weight.shape[-1])
        return (s.rounded(normalised(heads, "rms", s[self.epsilon])) * weight).reshape(len(x), -1)
