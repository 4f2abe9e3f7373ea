"""Embeddings of which each layer reads a part of its own (Gemma 3n and 4).

Letters: T = tokens, L = layers, P = width of a layer's part, H = embedding length.
"""

from __future__ import annotations

from rosetta.graph import TOKENS, Stage
from rosetta.ops.linear import Linear
from rosetta.ops.lookup import Embedding
from rosetta.ops.norm import Norm
from rosetta.ops.op import chain
from rosetta.ops.pointwise import Add, Heads, LayerGate, Scale

WIDTH, LAYERS, HIDDEN = "embedding_length_per_layer_input", "block_count", "embedding_length"
ROWS_SCALE, PROJECTION_SCALE, SUM_SCALE = (
    f"per_layer_embedding.{of}_scale" for of in ("rows", "projection", "sum")
)


def per_layer_embedding(x: str, epsilon: str, vocabulary: str = "per_layer_vocab_size") -> list[Stage]:
    """The rows of the tokens, and the normed projection of what the first layer reads, added up: [T, L, P].

    Args:
        x: what the first layer reads, [T, H].
        epsilon: config key of the norm's epsilon.
        vocabulary: config key of how many rows there are.
    """
    rows = chain(
        Embedding("per_layer_token_embd", rows=vocabulary, columns=(LAYERS, WIDTH)),
        Scale(ROWS_SCALE),
        Heads(LAYERS),
    )
    projected = chain(
        Linear("per_layer_model_proj", rows=(LAYERS, WIDTH), columns=HIDDEN, heads=LAYERS),
        Scale(PROJECTION_SCALE),
        Norm("per_layer_proj_norm", epsilon, width=(WIDTH,), kind="rms", bias=False),
    )
    return [
        Stage("per_layer_token_embd", rows, (TOKENS,)),
        Stage("per_layer_model_proj", projected, (x,)),
        Stage(
            "per_layer_embedding",
            chain(Add(), Scale(SUM_SCALE)),
            ("per_layer_model_proj", "per_layer_token_embd"),
        ),
    ]


def per_layer_block(x: str, n: int, norm: Norm) -> list[Stage]:
    """What a layer makes of its part: gated by what it reads, projected back and normed.

    Args:
        x: what is read.
        n: number of the layer.
        norm: of the result.
    """
    return [
        Stage("inp_gate", Linear("inp_gate", rows=WIDTH, columns=HIDDEN), (x,)),
        Stage("per_layer_gated", LayerGate(layer=n), ("inp_gate", "per_layer_embedding")),
        Stage("proj", Linear("proj", rows=HIDDEN, columns=WIDTH), ("per_layer_gated",)),
        Stage("post_norm", norm, ("proj",)),
    ]
