"""Phi-3, Phi-4, and the text part of Phi-4 multimodal, without its adapters: q, k and v in one tensor, gate and up in
another; long contexts by two lists of rope factors."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.readings import first_of, gate_beside_up, standard_readings
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """No window in a GGUF file: llama.cpp reads it and switches it off (models/phi3.cpp)."""
    if read.container.kind == "gguf":
        read.fixed("attention.sliding_window", 0, "llama.cpp switches it off")


PHI3 = Architecture(
    "phi3",
    gguf="phi3",
    classes=("Phi3ForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    settings=settings,
    readings=first_of(gate_beside_up, standard_readings),
    huggingface=HuggingFace(
        reads=frozenset({"partial_rotary_factor"}),
        defaults={  # transformers, Phi3Config
            "original_max_position_embeddings": 4096,
            "block_count": 32,
            "context_length": 4096,
            "embedding_length": 3072,
            "feed_forward_length": 8192,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "attention.sliding_window": 0,
            "vocab_size": 32064,
            "tied_embeddings": False,
        },
        names={
            "model.layers.{bid}.mlp.gate_up_proj": "blk.{bid}.ffn_up",
            "model.layers.{bid}.self_attn.qkv_proj": "blk.{bid}.attn_qkv",
        },
    ),
    llamacpp=LlamaCpp(scales_queries=True),
)
PHI4_MULTIMODAL = replace(
    PHI3,
    name="phi4_multimodal",
    classes=("Phi4MultimodalForCausalLM",),
    text_part="phi3",
    huggingface=replace(
        PHI3.huggingface,
        defaults={  # transformers, Phi4MultimodalConfig
            "original_max_position_embeddings": 4096,
            "block_count": 32,
            "context_length": 131072,
            "embedding_length": 3072,
            "feed_forward_length": 8192,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "attention.sliding_window": 0,
            "vocab_size": 200064,
            "tied_embeddings": False,
        },
    ),
)
