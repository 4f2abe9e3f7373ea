"""Qwen2-MoE: qwen2 with experts whose weights are those of all, and a shared one behind a gate of its own."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.expert_settings import expert_settings, of_folder, stepped_layers
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The experts, and the width of the shared one: llama.cpp has that of the dense network where none is stated."""
    expert_settings(
        read,
        count=of_folder(60, None),
        used=of_folder(4, None),
        width=of_folder(1408, None),
        normalised=False,
    )
    key, dense = "expert_shared_feed_forward_length", read.config["feed_forward_length"].value
    read.take(key, "count", of_folder(5632, dense))
    stepped_layers(read)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention, then experts and the gated shared one."""
    return mixture_layer(a, c, n, shared_gate=True)


QWEN2MOE = Architecture(
    "qwen2moe",
    gguf="qwen2moe",
    classes=("Qwen2MoeForCausalLM", "qwen2_moe"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=10000.0),
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="qwen2_moe",
        defaults={  # transformers, Qwen2MoeConfig
            "block_count": 24,
            "context_length": 32768,
            "embedding_length": 2048,
            "feed_forward_length": 5632,
            "attention.head_count": 16,
            "attention.head_count_kv": 16,
            "attention.sliding_window": 4096,
            "use_sliding_window": False,
            "max_window_layers": 28,
            "vocab_size": 151936,
            "tied_embeddings": False,
        },
        windows=lambda layer, first: layer % 2 == 0 and layer < first,
        flags={"qkv_bias": True},
        names={
            **gated("mlp.shared_expert", "_shexp"),
            "model.layers.{bid}.mlp.shared_expert_gate": "blk.{bid}.ffn_gate_inp_shexp",
        },
    ),
    llamacpp=LlamaCpp(reads=frozenset({"expert_feed_forward_length", "expert_shared_feed_forward_length"})),
)
