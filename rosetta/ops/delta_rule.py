"""Delta rules: states that are moved, under each token's key, towards its value.

Letters: T = tokens, C = channels, H = heads, P = channels of a head, N = size of a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import functional as F
from rosetta.lazily import torch
from rosetta.ops.op import Settings, Size, Step, Tensors, size
from rosetta.ops.recurrent import GROUPS, INNER, RANK, STATE, Measured

if TYPE_CHECKING:
    from torch import Tensor

TAKEN: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda take: torch.sigmoid(take),
    "twice sigmoid": lambda take: 2 * torch.sigmoid(take),
    "identity": lambda take: take,
}
"""How far a delta rule moves its state, of what is projected; the second where eigenvalues may be negative."""


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
