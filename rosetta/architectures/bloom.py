"""BLOOM: ALiBi in place of rotary, a normed embedding, biases everywhere."""

from __future__ import annotations

from typing import Any

from rosetta.architectures.architecture import Architecture, Default
from rosetta.architectures.builders import (
    attention,
    embedding,
    feed_forward,
    output_of,
    scores_of,
    sequential,
)
from rosetta.architectures.readings import Reading, Stored, by_key_group, standard_readings
from rosetta.graph import Stage
from rosetta.ops.op import Settings

LARGEST = 8.0  # Press et al. 2022; llama.cpp, models/bloom.cpp


def settings(read: Any) -> None:
    """ALiBi's largest exponent, which no file states."""
    read.fixed("attention.max_alibi_bias", LARGEST, "the architecture's")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention whose scores fall with distance, then a network without a gate."""
    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"), rope=None, scores=scores_of(c, alibi="attention.max_alibi_bias")
        ),
        feed_forward(norm=a.norm_of("ffn_norm"), gated=False),
    )


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """A folder has q, k and v of each head beside each other, GGUF all q first."""
    if stored.stem == "attn_qkv" and stored.foreign:
        return by_key_group(stored, c)
    found = standard_readings(stored, c)
    return None if found is None else list(found)


BLOOM = Architecture(
    "bloom",
    gguf="bloom",
    classes=("BloomForCausalLM", "BloomModel"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu_tanh",
    gated=False,
    rope=None,
    settings=settings,
    readings=readings,
    before=lambda a: embedding(a.norm_of("token_embd_norm")),
    layer=layer,
    huggingface={  # transformers, BloomConfig
        "block_count": 2,
        "embedding_length": 64,
        "attention.head_count": 8,
        "vocab_size": 250880,
        "tied_embeddings": True,
        "context_length": 2048,
    },
)
