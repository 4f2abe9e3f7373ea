"""dots.llm1: normed heads, a dense layer or several, then sigmoid experts beside a shared one."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.expert_settings import (
    expert_groups,
    expert_settings,
    leading_dense,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.folder_names import SCORE_CORRECTION, gated
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Sigmoid experts; llama.cpp asks a file which function they have."""
    expert_settings(
        read,
        width=Default(apr=None, gguf=None, huggingface=1408),
        gating=of_folder(2, 1),
        normalised=False,
        scale=1.0,
    )
    expert_groups(read, of_folder(1), of_folder(1))
    shared_expert(read, None, "n_shared_experts")
    leading_dense(read, 0, "first_k_dense_replace")


DOTS1 = Architecture(
    "dots1",
    gguf="dots1",
    classes=("Dots1ForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    qk_norm=True,
    settings=settings,
    layer=mixture_layer,
    huggingface=HuggingFace(
        defaults={  # transformers, Dots1Config
            "block_count": 62,
            "context_length": 2048,
            "embedding_length": 4608,
            "feed_forward_length": 10944,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "attention.sliding_window": 4096,
            "max_window_layers": 62,
            "vocab_size": 152064,
            "tied_embeddings": False,
        },
        spellings={
            "expert_count": "n_routed_experts",
        },
        flags={"attention_bias": False},
        names=gated("mlp.shared_experts", "_shexp"),
        parameters=SCORE_CORRECTION,
    ),
    llamacpp=LlamaCpp(reads=llamacpp_keys.EXPERTS),
)
