"""Mellum 2: qwen3moe with a window in three of four layers, which are rotated without scaling."""

from __future__ import annotations

from rosetta.architectures import SPLIT_HALF, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors
from rosetta.architectures.parts.builders import windowed_rope
from rosetta.architectures.parts.expert_settings import (
    expert_settings,
    leading_dense,
    no_pattern_without_window,
    of_folder,
)
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.architectures.parts.stated_kinds import PATTERN, SLIDING_LISTED, network_kinds, window_kinds
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader

SWA_BASE = "rope.freq_base_swa"


def settings(read: SettingsReader) -> None:
    """Softmax experts, and the base of layers with a window, which llama.cpp reads and does not use
    (models/mellum.cpp)."""
    expert_settings(
        read,
        count=of_folder(64, None),
        used=of_folder(8, None),
        width=of_folder(896, None),
        normalised=of_folder(True, True),
    )
    leading_dense(read, 0)
    if read.container.kind == "huggingface" and read.raw(PATTERN) is None:
        read.by_layer(PATTERN, [False] * read.config["block_count"].value, "default of transformers")
        read.fixed("attention.sliding_window", 0, "no layer has one")
    no_pattern_without_window(read)
    if read.container.kind == "gguf":
        read.raw(SWA_BASE)
        read.fixed(
            SWA_BASE, read.config["rope.freq_base"].value, "llama.cpp turns all layers with rope.freq_base"
        )
    else:
        read.take(SWA_BASE, "number", 10000.0)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention with normed heads, then experts."""
    return mixture_layer(a, c, n, mixer={"rope": windowed_rope(c, SPLIT_HALF)})


MELLUM = Architecture(
    "mellum",
    gguf="mellum",
    classes=("MellumForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope_theta=Default(apr=5e5, gguf=10000.0, huggingface=5e5),
    qk_norm=True,
    full_attention_every=4,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        reads=frozenset({"partial_rotary_factor"}),
        defaults={  # transformers, MellumConfig
            "block_count": 28,
            "context_length": 131072,
            "embedding_length": 2304,
            "feed_forward_length": 7168,
            "attention.head_count": 32,
            "attention.head_count_kv": 4,
            "attention.key_length": 128,
            "attention.sliding_window": 1024,
            "vocab_size": 98304,
            "tied_embeddings": False,
        },
        spellings={"expert_count": "num_local_experts"},
        keys={"layer_types": window_kinds, "mlp_layer_types": network_kinds},
        flags={"attention_bias": False},
        rotation_by_kind=True,
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"expert_feed_forward_length", "rope.freq_base_swa"}),
        keys=SLIDING_LISTED,
        factors=factors.ATTENTION | factors.EXPERTS,
    ),
)
