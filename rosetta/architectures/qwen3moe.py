"""Qwen3-MoE: qwen3 with a mixture of experts in place of the network of most layers."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors
from rosetta.architectures.parts.expert_settings import stepped_layers
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.graph import Stage
from rosetta.ops.experts import Router
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """How many experts there are, how many are used, and whether their weights sum to one."""
    read.take("expert_count", "count", Default(apr=128, gguf=None, huggingface=128))
    read.take("expert_used_count", "count", Default(apr=8, gguf=None, huggingface=8))
    read.take("expert_feed_forward_length", "count", Default(apr=768, gguf=None, huggingface=768))
    read.take("expert_weights_norm", "flag", Default(apr=True, gguf=True, huggingface=False))
    stepped_layers(read)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention with normed heads, then experts, or a dense network where the layer has none."""
    router = Router(normalised="expert_weights_norm")
    return mixture_layer(a, c, n, router=router)


QWEN3MOE = Architecture(
    "qwen3moe",
    gguf="qwen3moe",
    classes=("Qwen3MoeForCausalLM", "qwen3_moe"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=10000.0),
    qk_norm=True,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="qwen3_moe",
        defaults={  # transformers, Qwen3MoeConfig
            "block_count": 24,
            "context_length": 32768,
            "embedding_length": 2048,
            "feed_forward_length": 6144,
            "attention.head_count": 32,
            "attention.head_count_kv": 4,
            "attention.sliding_window": 4096,
            "use_sliding_window": False,
            "vocab_size": 151936,
            "tied_embeddings": False,
        },
        spellings={
            "expert_count": "num_local_experts",
        },
        flags={"attention_bias": False},
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"expert_feed_forward_length"}),
        factors=factors.ATTENTION | factors.EXPERTS,
    ),
)
