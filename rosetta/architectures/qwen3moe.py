"""Qwen3-MoE: qwen3 with a mixture of experts in place of the network of most layers."""

from __future__ import annotations

from functools import partial
from typing import Any

from rosetta.architectures.architecture import Architecture, Default
from rosetta.architectures.builders import attention, experts, feed_forward, output_of, scores_of, sequential
from rosetta.graph import Stage
from rosetta.ops.experts import Router
from rosetta.ops.norm import Norm
from rosetta.ops.op import Settings
from rosetta.ops.rotary import SPLIT_HALF, Rotary


def settings(read: Any) -> None:
    """How many experts there are, how many are used, and whether their weights sum to one."""
    read.take("expert_count", "count", Default(apr=128, gguf=None, huggingface=128))
    read.take("expert_used_count", "count", Default(apr=8, gguf=None, huggingface=8))
    read.take("expert_feed_forward_length", "count", Default(apr=768, gguf=None, huggingface=768))
    read.take("expert_weights_norm", "flag", Default(apr=True, gguf=True, huggingface=False))
    dense = read.spelled("mlp_only_layers")
    step = read.spelled("decoder_sparse_step")
    layers = range(read.config["block_count"].value)
    sparse = [
        layer not in (dense.value if dense else []) and (layer + 1) % (step.value if step else 1) == 0
        for layer in layers
    ]
    read.by_layer("expert_layers", sparse)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention with normed heads, then experts, or a dense network where the layer has none."""
    norm = a.norm_of("ffn_norm")
    network = feed_forward(norm=norm)
    if c["expert_layers"]:
        network = experts(norm=norm, router=Router(normalised="expert_weights_norm"))
    head_norm = partial(
        Norm, epsilon=a.epsilon_key, width=("attention.key_length",), kind="rms", optional=True, bias=False
    )
    mixer = attention(
        norm=a.norm_of("attn_norm"), rope=Rotary(SPLIT_HALF), head_norm=head_norm, scores=scores_of(c)
    )
    return sequential(output_of(n - 1), mixer, network)


QWEN3MOE = Architecture(
    "qwen3moe",
    gguf="qwen3moe",
    classes=("Qwen3MoeForCausalLM", "qwen3_moe"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=10000.0),
    qk_norm=True,
    settings=settings,
    layer=layer,
    huggingface={  # transformers, Qwen3MoeConfig
        "block_count": 24,
        "context_length": 32768,
        "embedding_length": 2048,
        "feed_forward_length": 6144,
        "attention.head_count": 32,
        "attention.head_count_kv": 4,
        "attention.sliding_window": 4096,
        "use_sliding_window": False,
        "max_window_layers": 28,
        "vocab_size": 151936,
        "tied_embeddings": False,
    },
)
