"""The router of Phi-3.5-MoE: each of two experts is weighed among those whose scores are near its own.

Letters: T = tokens, E = experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import torch
from rosetta.ops.experts import Router
from rosetta.ops.op import Step

if TYPE_CHECKING:
    from torch import Tensor

SPARSE_MIXER = 101
"""Number of this gating function; GGUF has none for it."""


@dataclass(frozen=True)
class SparseMixer(Router):
    """One expert after another: the best of those not yet chosen, weighed by the softmax of the scores that lie within
    a relative distance of its own (transformers, modeling_phimoe.py, sparsemixer; Liu et al. 2023).

    Args:
        near: config key of half that distance.
    """

    near: str = "router_jitter_noise"

    @property
    def keys(self) -> tuple[str, ...]:
        return (*super().keys, self.near)

    def _probabilities(self, s: Step, scores: Tensor) -> Tensor:
        return scores

    def _weighed(self, s: Step, scores: Tensor) -> Tensor:
        weights, left = torch.zeros_like(scores), scores
        for _ in range(int(s[self.used])):
            best, chosen = left.max(-1, keepdim=True)
            far = (best - scores) / scores.abs().maximum(best) > 2 * s[self.near]
            share = left.masked_fill(far, -torch.inf).softmax(-1).gather(1, chosen)
            weights = weights.scatter(1, chosen, share)
            left = left.scatter(1, chosen, -torch.inf)
        return weights
