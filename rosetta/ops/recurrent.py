"""Operations that carry a state from token to token: convolutions, selective scans, delta rules, and what opens and
closes them.

Letters: T = tokens, C = channels, K = taps of a convolution, H = heads, P = channels of a head, G = groups of heads
that share what is read and written by, N = size of a state (of a key), R = rank of the time step.
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
        x = _cut(inputs[0], size(s.settings, self.first), channels)
        if self.gate is not None:
            x = s.rounded(x * _cut(inputs[0], size(s.settings, self.gate), channels))
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


def _cut(x: Tensor, first: int, count: int) -> Tensor:
    return x[:, first : first + count]


def selective_scan(
    x: Tensor,
    decay: Tensor,
    write: Tensor,
    read: Tensor,
    state: Tensor,
    rounded: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """A state that decays, takes what each token writes, and is read: (what was read, [T, H, P]; the last state).

    Args:
        x: what is written, times the time step, [T, H, P].
        decay: factor of the state, [T, H, P or 1, N or 1].
        write, read: B and C, [T, H or 1, N].
        state: before the first token, [H, P, N].
        rounded: see `Step.rounded`.
    """
    y = []
    for t in range(len(x)):
        state = rounded(state * decay[t] + x[t][..., None] * write[t][:, None, :])
        y.append((state * read[t][:, None, :]).sum(-1))
    return torch.stack(y), state


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    beta: Tensor,
    state: Tensor,
    rounded: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """A state that decays, and under each token's key is moved towards its value (Yang et al. 2024, gated delta net):
    (what the queries read, [T, H, P]; the last state).

    Args:
        q, k: [T, H, N]; v: [T, H, P].
        decay: factor of the state, [T, H, N], or [T, H, 1] where all of a key's channels share it.
        beta: how far it is moved, [T, H].
        state: before the first token, [H, N, P].
        rounded: see `Step.rounded`.
    """
    y = []
    for t in range(len(q)):
        state = state * decay[t][..., None]
        known = (state * k[t][..., None]).sum(1)
        moved = (v[t] - known) * beta[t][:, None]
        state = rounded(state + k[t][..., None] * moved[:, None, :])
        y.append((state * q[t][..., None]).sum(1))
    return torch.stack(y), state


TAKEN: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda take: torch.sigmoid(take),
    "twice sigmoid": lambda take: 2 * torch.sigmoid(take),
    "identity": lambda take: take,
}
"""How far a delta rule moves its state, of what is projected; the second where eigenvalues may be negative."""


STEPPED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "softplus": lambda steps: F.softplus(steps),
    "exp": lambda steps: torch.exp(steps),
    "identity": lambda steps: steps,
}
"""A state's time steps, of what is projected."""


def of_unit_length(x: Tensor, epsilon: float) -> Tensor:
    """x divided by its length over the last dimension."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + epsilon)


@dataclass(frozen=True)
class GatedDelta(Measured):
    """A gated delta net's state: queries, keys and values after their convolution, [T, C], and how much each head
    forgets and takes, -> [T, H, P].

    Args:
        tiled: whether value heads that share a key lie a whole set of keys apart, and forgetting and taking are inputs
            of their own, [T, H] each; else such heads lie beside each other, and both are one input: for each key
            those of its heads, taking before forgetting.
        epsilon: config key of what keeps a length from zero.
        unit: whether queries and keys are brought to unit length.
        taken: how far the state is moved, see `TAKEN`.
        scaled: whether queries are divided by the root of their size.
        by_turns: whether value heads find their keys the other way than `tiled` says.
        exchanged: whether the gates are: how much is taken is read where how much is forgotten stands.
    """

    tiled: bool
    epsilon: str = "ssm.l2_epsilon"
    unit: bool = True
    taken: str = "sigmoid"
    scaled: bool = True
    by_turns: bool = False
    exchanged: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return (STATE, GROUPS, RANK, INNER, self.epsilon)

    def tensors(self, c: Settings) -> Tensors:
        heads = size(c, RANK)
        return Tensors({"ssm_a": (heads,), "ssm_dt.bias": (heads,)})

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        mixed, *gates = inputs
        groups, heads, width, inner = int(s[GROUPS]), int(s[RANK]), int(s[STATE]), int(s[INNER])
        q, k, v = torch.split(mixed, [groups * width, groups * width, inner], dim=-1)
        q, k = (x.view(len(x), groups, width) for x in (q, k))
        if self.unit:
            q, k = (of_unit_length(x, s[self.epsilon]) for x in (q, k))
        q, k = (self._for_values(x, heads // groups) for x in (q, k))
        forget, take = gates if self.tiled else _taking_first(gates[0], groups)
        if self.exchanged:
            forget, take = take, forget
        decay = torch.exp(s.rounded(s.weight("ssm_a") * F.softplus(forget + s.weight("ssm_dt.bias"))))
        state = s.state("state", mixed.new_zeros(heads, width, inner // heads))
        y, state = delta_rule(
            s.rounded(q) * (width**-0.5 if self.scaled else 1.0),
            s.rounded(k),
            v.view(len(v), heads, -1),
            decay[..., None],
            TAKEN[self.taken](take),
            state,
            s.rounded,
        )
        s.leave("state", state)
        return y

    def _for_values(self, x: Tensor, each: int) -> Tensor:
        tiled = self.tiled is not self.by_turns
        return x.repeat(1, each, 1) if tiled else x.repeat_interleave(each, dim=1)


def _taking_first(both: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """(forgetting, taking), [T, H] each, of [T, 2H] as the groups have them."""
    take, forget = both.view(len(both), groups, 2, -1).unbind(2)
    return forget.reshape(len(both), -1), take.reshape(len(both), -1)


@dataclass(frozen=True)
class ChannelDelta(Measured):
    """Kimi's delta attention, in which each channel of a key forgets by itself: queries, keys and values after their
    convolutions, what is forgotten, [T, H·N] each, and what is taken, [T, H] -> [T, H, N].

    Args:
        heads, width: config keys: H, N.
        epsilon, unit, taken, scaled: see `GatedDelta`.
    """

    heads: str
    width: str
    epsilon: str = "ssm.l2_epsilon"
    unit: bool = True
    taken: str = "sigmoid"
    scaled: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.heads, self.width, self.epsilon)

    @property
    def shape(self) -> tuple[Size, ...]:
        return (self.heads, self.width)

    def tensors(self, c: Settings) -> Tensors:
        heads, width = size(c, self.heads), size(c, self.width)
        return Tensors({"ssm_a": (heads, 1), "ssm_dt.bias": (heads * width,)})

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        *mixed, forget, take = inputs
        heads, width = int(s[self.heads]), int(s[self.width])
        q, k, v = (x.reshape(len(x), heads, width) for x in mixed)
        if self.unit:
            q, k = (of_unit_length(x, s[self.epsilon]) for x in (q, k))
        steps = F.softplus(forget + s.weight("ssm_dt.bias")).view(len(forget), heads, width)
        decay = torch.exp(s.rounded(steps * s.weight("ssm_a").view(heads, 1)))
        state = s.state("state", v.new_zeros(heads, width, width))
        taken = TAKEN[self.taken](take)
        q = s.rounded(q) * (width**-0.5 if self.scaled else 1.0)
        y, state = delta_rule(q, s.rounded(k), v, decay, taken, state, s.rounded)
        s.leave("state", state)
        return y


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
        gate = _cut(gate.reshape(len(gate), -1), size(s.settings, self.first), channels)
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


@dataclass(frozen=True)
class StateSpace(Measured):
    """Mamba-2's state (Dao and Gu 2024): what was convolved, [T, C], and the projection's time steps -> [T, H, P].

    Args:
        smallest, largest: config keys of what time steps are held between; 0 for the latter: they are not held.
        stepped: what is done to time steps first, see `STEPPED`.
        exchanged: whether what is written by stands behind what is read by.
        tiled: whether heads that share them lie a whole set of groups apart.
    """

    smallest: str = SMALLEST
    largest: str = LARGEST
    stepped: str = "softplus"
    exchanged: bool = False
    tiled: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return (STATE, GROUPS, RANK, INNER, self.smallest, self.largest)

    def tensors(self, c: Settings) -> Tensors:
        heads = size(c, RANK)
        return Tensors({"ssm_a": (heads, 1), "ssm_d": (heads, 1), "ssm_dt.bias": (heads,)})

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        mixed, projected = inputs
        groups, heads, width, inner = int(s[GROUPS]), int(s[RANK]), int(s[STATE]), int(s[INNER])
        x, write, read = torch.split(mixed, [inner, groups * width, groups * width], dim=-1)
        x = x.reshape(len(x), heads, -1)
        if self.exchanged:
            write, read = read, write
        write, read = (self._for_heads(y.view(len(y), groups, width), heads // groups) for y in (write, read))
        behind = 2 * inner + 2 * groups * width  # the gate and what was convolved
        steps = STEPPED[self.stepped](_cut(projected, behind, heads) + s.weight("ssm_dt.bias"))
        steps = steps.clamp(s[self.smallest], s[self.largest] or torch.inf)
        decay = torch.exp(s.rounded(steps * s.weight("ssm_a").view(heads)))
        state = s.state("state", x.new_zeros(heads, inner // heads, width))
        y, state = selective_scan(x * steps[..., None], decay[..., None, None], write, read, state, s.rounded)
        s.leave("state", state)
        skipped: Tensor = x * s.weight("ssm_d")
        return s.rounded(y) + skipped

    def _for_heads(self, x: Tensor, each: int) -> Tensor:
        return x.repeat(1, each, 1) if self.tiled else x.repeat_interleave(each, dim=1)


@dataclass(frozen=True)
class SelectiveScan(Measured):
    """Mamba's state (Gu and Dao 2023), of each channel its own: what was convolved, [T, C], the time steps before
    softplus, [T, C], B and C, [T, N] each -> [T, C].

    Args:
        stepped, exchanged: see `StateSpace`.
    """

    stepped: str = "softplus"
    exchanged: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return (STATE, INNER)

    @property
    def shape(self) -> tuple[Size, ...]:
        return (INNER,)

    def tensors(self, c: Settings) -> Tensors:
        inner, width = size(c, INNER), size(c, STATE)
        return Tensors({"ssm_a": (inner, width), "ssm_d": (inner,)})

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        x, steps, write, read = inputs
        if self.exchanged:
            write, read = read, write
        steps = STEPPED[self.stepped](steps)
        decay = torch.exp(s.rounded(steps[..., None] * s.weight("ssm_a")))  # [T, C, N]
        state = s.state("state", x.new_zeros(x.shape[1], 1, write.shape[1]))
        y, state = selective_scan(
            (x * steps)[..., None], decay[:, :, None], write[:, None], read[:, None], state, s.rounded
        )
        s.leave("state", state)
        return s.rounded(y[..., 0]) + x * s.weight("ssm_d")
