"""Hunyuan 3: normed heads, a dense first layer, then sigmoid experts beside a shared one."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors
from rosetta.architectures.parts.expert_settings import (
    expert_settings,
    layers_with_router,
    leading_dense,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Sigmoid experts; a GGUF does not say which layers have some."""
    expert_settings(
        read,
        count=of_folder(192, None),
        used=of_folder(8, None),
        width=of_folder(1536, None),
        gating=2,
        normalised=of_folder(True, False),
        scale=of_folder(2.826, 1.0),
    )
    held = any("_shexp." in name for name in read.container.tensors)
    shared_expert(read, of_folder(1, int(held)), "num_shared_experts")
    if read.container.kind == "gguf":
        layers_with_router(read)
    else:
        leading_dense(read, 1, "first_k_dense_replace")


HY_V3 = Architecture(
    "hy_v3",
    gguf="hy_v3",
    classes=("HYV3ForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope_theta=Default(apr=11158840.0, gguf=10000.0, huggingface=11158840.0),
    qk_norm=True,
    settings=settings,
    layer=mixture_layer,
    huggingface=HuggingFace(
        defaults={  # transformers, HYV3Config
            "block_count": 80,
            "context_length": 131072,
            "embedding_length": 4096,
            "feed_forward_length": 13312,
            "attention.head_count": 64,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "vocab_size": 120832,
            "tied_embeddings": False,
        },
        spellings={"expert_weights_scale": "router_scaling_factor"},
        flags={"attention_bias": False, "mlp_bias": False},
        names={
            **gated("mlp.shared_mlp", "_shexp"),
            "model.layers.{bid}.mlp.router.gate": "blk.{bid}.ffn_gate_inp",
        },
        parameters={
            "model.layers.{bid}.mlp.expert_bias": "blk.{bid}.exp_probs_b",
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset(
            {
                "expert_feed_forward_length",
                "expert_gating_func",
                "expert_shared_feed_forward_length",
                "expert_weights_norm",
                "expert_weights_scale",
            }
        ),
        bare=("exp_probs_b",),
        factors=factors.ATTENTION | factors.NETWORK | factors.EXPERTS | factors.SHARED,
    ),
)
