"""Granite 3 and 4 (dense): llama with factors of embedding, of what each block adds, of scores and logits."""

from __future__ import annotations

from typing import Any

from rosetta.architectures.architecture import INTERLEAVED, Architecture, Default
from rosetta.architectures.builders import (
    attention,
    embedding,
    feed_forward,
    head,
    output_of,
    scores_of,
    sequential,
)
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Scale
from rosetta.ops.rotary import Rotary

NONE = Default(apr=1.0, gguf=1.0, huggingface=1.0)


def settings(read: Any) -> None:
    """The factors; by the last one the logits are divided."""
    for key in ("embedding_scale", "residual_scale", "logit_scale"):
        read.take(key, "number", NONE)
    if read.container.kind == "huggingface":
        read.number("attention.scale", 1.0, "default of transformers")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A layer of the llama family, what its blocks add scaled."""
    return sequential(
        output_of(n - 1),
        attention(norm=a.norm_of("attn_norm"), rope=Rotary(INTERLEAVED), scores=scores_of(c)),
        feed_forward(norm=a.norm_of("ffn_norm")),
        scale="residual_scale",
    )


GRANITE = Architecture(
    "granite",
    folder_flags={"attention_bias": False, "mlp_bias": False},
    gguf="granite",
    classes=("GraniteForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-5, huggingface=1e-6),
    rope=INTERLEAVED,
    settings=settings,
    before=lambda a, c: embedding(Scale("embedding_scale")),
    layer=layer,
    after=lambda a, layers: head(
        output_of(layers - 1), Scale("logit_scale", inverse=True), norm=a.norm_of("output_norm")
    ),
    spellings={"attention.scale": "attention_multiplier"},
    gguf_keys={"logit_scale": lambda c: c["logit_scale"].value},
    huggingface={  # transformers, GraniteConfig
        "block_count": 32,
        "context_length": 2048,
        "embedding_length": 4096,
        "feed_forward_length": 11008,
        "attention.head_count": 32,
        "attention.head_count_kv": 32,
        "vocab_size": 32000,
        "tied_embeddings": False,
    },
)
