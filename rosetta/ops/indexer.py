"""Sparse attention whose indexer chooses which tokens are seen (DeepSeek-V3.2, GLM-5), where it has no choice.

Of a sequence that is no longer than the number chosen all are seen, so that the scores are those of dense attention:
longer ones are refused before anything is computed. The indexer's weights are the stage's all the same: they are
compared, and what is wrong with them does not show on such a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

from rosetta.ops.attention import Scores
from rosetta.ops.op import Settings, Tensors, size

TOP_K = "attention.indexer.top_k"
"""Config key: how many of the tokens before it each token sees."""
ANY = -1  # heads of the indexer and their size, of which nothing here is computed


@dataclass(frozen=True)
class IndexedScores(Scores):
    """Scores of dense attention beside an indexer's weights, which a layer that shares another's choice lacks."""

    def tensors(self, c: Settings) -> Tensors:
        """Those of the scores, and the indexer's queries, keys, their norm, and the weight of each of its heads."""
        own, hidden = super().tensors(c), size(c, "embedding_length")
        indexer = {
            "indexer.attn_q_b.weight": (ANY, size(c, "attention.q_lora_rank")),
            "indexer.attn_k.weight": (ANY, hidden),
            "indexer.k_norm.weight": (ANY,),
            "indexer.k_norm.bias": (ANY,),
            "indexer.proj.weight": (ANY, hidden),
        }
        return Tensors(own.required, {**own.optional, **indexer}, own.settings)
