"""State spaces: Mamba's and Mamba-2's states, which decay, take what each token writes, and are read.

Letters: T = tokens, C = channels, H = heads, P = channels of a head, N = size of a state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import functional as F
from rosetta.lazily import torch
from rosetta.ops.op import Settings, Size, Step, Tensors, size
from rosetta.ops.recurrent import GROUPS, INNER, LARGEST, RANK, SMALLEST, STATE, Measured, cut

if TYPE_CHECKING:
    from torch import Tensor

STEPPED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "softplus": lambda steps: F.softplus(steps),
    "exp": lambda steps: torch.exp(steps),
    "identity": lambda steps: steps,
}
"""A state's time steps, of what is projected."""


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
        steps = STEPPED[self.stepped](cut(projected, behind, heads) + s.weight("ssm_dt.bias"))
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
