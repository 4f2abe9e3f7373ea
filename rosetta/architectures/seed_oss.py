"""Seed-OSS: llama with a bias on q, k and v; GGUF calls the norm before the network `post_attention_norm`."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.graph import Stage
from rosetta.ops.op import Settings


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A layer of the llama family."""
    return mixture_layer(a, c, n, ffn_norm="post_attention_norm")


SEED_OSS = Architecture(
    "seed_oss",
    gguf="seed_oss",
    classes=("SeedOssForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, SeedOssConfig
            "block_count": 64,
            "context_length": 524288,
            "embedding_length": 4096,
            "feed_forward_length": 27648,
            "attention.head_count": 80,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "vocab_size": 155136,
            "tied_embeddings": False,
        },
        flags={"attention_bias": True, "attention_out_bias": False, "mlp_bias": False},
        names={
            "model.layers.{bid}.post_attention_layernorm": "blk.{bid}.post_attention_norm",
        },
    ),
)
