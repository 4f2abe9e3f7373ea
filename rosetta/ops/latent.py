"""Latent attention: keys and values of all heads out of one short vector a token (DeepSeek-V2, MLA).

Letters: T = tokens, N = heads, L = size of the latent, P = of the part that is rotated and shared by all heads,
U = of a head's part that is not, D = U + P.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import torch
from rosetta.ops.linear import product_unit
from rosetta.ops.norm import Norm
from rosetta.ops.op import Op, Rounding, Settings, Size, Spread, Step, Tensors, size

if TYPE_CHECKING:
    from torch import Tensor

NOPE = "attention.key_length_nope"
"""Config key of U."""
LATENT_EPSILON = "attention.latent_norm_epsilon"
"""Config key of the epsilon of the norms of a latent."""


@dataclass(frozen=True)
class LatentNorm(Norm):
    """The norm of as many of the first columns as its weight has; the others are left out: [T, L + P] -> [T, L]."""

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return super().compute(s, self._latent(s, inputs[0]))

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        return super().spread(s, rounding, y, self._latent(s, inputs[0]))

    def _latent(self, s: Step, x: Tensor) -> Tensor:
        return x[..., : size(s.settings, self.width[-1])]


def latent_norm(stem: str) -> LatentNorm:
    """The norm of the latent of queries, `attn_q_a_norm`, or of keys and values."""
    rank = "attention.q_lora_rank" if stem == "attn_q_a_norm" else "attention.kv_lora_rank"
    return LatentNorm(stem, LATENT_EPSILON, width=(rank,), kind="rms", bias=False)


@dataclass(frozen=True)
class LatentKeys(Op):
    """Keys of all heads: each head's own part out of the latent, then the part that all share:
    [T, L], [T, L + P] -> [T, N, D].

    Args:
        stem: of the heads' matrices, [U, L] each: `attn_k_b`; head 3's is `attn_k_b.3.weight`. GGUF stores each turned.
        heads, rows, columns: config keys: N, U, L.
    """

    stem: str = "attn_k_b"
    heads: str = "attention.head_count"
    rows: str = NOPE
    columns: str = "attention.kv_lora_rank"

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.heads,)

    @property
    def shape(self) -> tuple[Size, ...]:
        return (self.heads, "attention.key_length")

    def _names(self, c: Settings) -> list[str]:
        return [f"{self.stem}.{head}.weight" for head in range(size(c, self.heads))]

    def tensors(self, c: Settings) -> Tensors:
        return Tensors(dict.fromkeys(self._names(c), (size(c, self.rows), size(c, self.columns))))

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        latent, whole = inputs
        names = self._names(s.settings)
        own = torch.stack([latent @ s.weight(name).T for name in names], dim=1)
        return torch.cat([own, self._shared(latent, whole).expand(-1, len(names), -1)], dim=-1)

    @staticmethod
    def _shared(latent: Tensor, whole: Tensor) -> Tensor:
        """The part that all heads share, [T, 1, P]."""
        return whole[:, None, latent.shape[-1] :]

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        latent = inputs[0]
        squares, unit = latent.float().square(), product_unit(latent, rounding)
        explained = torch.zeros(y.shape, device=y.device)
        floor = torch.zeros_like(explained)
        for head, name in enumerate(self._names(s.settings)):
            weight, full = s.weight(name).float(), s.full_name(name)
            own = slice(0, len(weight))
            floor[:, head, own] = unit * (squares @ weight.square().T).sqrt()
            if rounding.explains(full):
                explained[:, head, own] = rounding.explained(full, s.cache, latent, (0, len(weight)))
        return Spread(explained, floor)
