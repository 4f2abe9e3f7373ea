"""Sparse attention whose indexer chooses which tokens are seen (DeepSeek-V3.2, GLM-5, MiniMax-M3), where it has no
choice.

Of a sequence that is no longer than what is chosen all is seen, so that the scores are those of dense attention:
longer ones are refused before anything is computed. The indexer's weights are the stage's all the same: they are
compared, and what is wrong with them does not show on such a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rosetta.ops.attention import Scores
from rosetta.ops.op import Settings, Tensors, size

TOP_K = "attention.indexer.top_k"
"""Config key: how many of the tokens before it each token sees, or how many blocks of them."""
BLOCK_SIZE = "attention.indexer.block_size"
"""Config key: how many tokens are in a block; missing where an indexer chooses tokens one by one."""
ANY = -1  # heads of the indexer and their size, of which nothing here is computed


def dense_count(config: Mapping[str, Any]) -> float:
    """Tokens up to which each sees all before it; infinite where nothing is chosen.

    Args:
        config: canonical keys -> values.
    """
    return config[TOP_K] * config.get(BLOCK_SIZE, 1) if TOP_K in config else math.inf


@dataclass(frozen=True)
class IndexedScores(Scores):
    """Scores of dense attention beside an indexer's weights, which a layer that shares another's choice lacks."""

    def tensors(self, c: Settings) -> Tensors:
        """Those of the scores and of the indexer."""
        own = super().tensors(c)
        return Tensors(own.required, {**own.optional, **self.indexer(c)}, own.settings)

    def indexer(self, c: Settings) -> dict[str, tuple[int, ...]]:
        """Its queries, keys, their norm, and the weight of each of its heads."""
        hidden = size(c, "embedding_length")
        return {
            "indexer.attn_q_b.weight": (ANY, size(c, "attention.q_lora_rank")),
            "indexer.attn_k.weight": (ANY, hidden),
            "indexer.k_norm.weight": (ANY,),
            "indexer.k_norm.bias": (ANY,),
            "indexer.proj.weight": (ANY, hidden),
        }


@dataclass(frozen=True)
class BlockScores(IndexedScores):
    """The same, where blocks of tokens are chosen by the best of each block, and heads weigh alike."""

    def indexer(self, c: Settings) -> dict[str, tuple[int, ...]]:
        """Its queries and keys, and the norms of both."""
        hidden = size(c, "embedding_length")
        return {
            "indexer.q_proj.weight": (ANY, hidden),
            "indexer.k_proj.weight": (ANY, hidden),
            "indexer.q_norm.weight": (ANY,),
            "indexer.k_norm.weight": (ANY,),
        }
