"""Hunyuan (dense): llama with an RMSNorm over each head of q and k after they are rotated."""

from __future__ import annotations

from typing import Any

from rosetta.architectures.architecture import Architecture, Default
from rosetta.architectures.builders import attention, feed_forward, output_of, sequential
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import SPLIT_HALF, Rotary


def settings(read: Any) -> None:
    """A rotary base that a factor α has raised once and for all, whatever the length (transformers, and llama.cpp's
    converter, which writes the raised base)."""
    stated = read.raw("rope.scaling")
    alpha = stated.value.get("alpha") if stated is not None and isinstance(stated.value, dict) else None
    if read.container.kind == "gguf" or not isinstance(alpha, int | float) or not alpha > 0:
        return
    dimensions, theta = read.config["rope.dimension_count"].value, read.config["rope.freq_base"]
    raised = theta.value * alpha ** (dimensions / max(dimensions - 2, 1))
    read.fixed("rope.freq_base", raised, "the base, raised by alpha")
    read.fixed("rope.scaling", None, "the base is raised instead")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A layer of the llama family, its rotated queries and keys normed."""
    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=Rotary(SPLIT_HALF),
            after_rope=lambda part: a.head_norm(f"attn_{part}_norm"),
        ),
        feed_forward(norm=a.norm_of("ffn_norm")),
    )


HUNYUAN_DENSE = Architecture(
    "hunyuan-dense",
    gguf="hunyuan-dense",
    classes=("HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    settings=settings,
    layer=layer,
    names={
        "model.layers.{bid}.self_attn.query_layernorm": "blk.{bid}.attn_q_norm",
        "model.layers.{bid}.self_attn.key_layernorm": "blk.{bid}.attn_k_norm",
    },
    huggingface={  # transformers, HunYuanDenseV1Config
        "block_count": 32,
        "context_length": 2048,
        "embedding_length": 4096,
        "feed_forward_length": 11008,
        "attention.head_count": 32,
        "attention.head_count_kv": 32,
        "vocab_size": 290943,
        "tied_embeddings": False,
    },
)
