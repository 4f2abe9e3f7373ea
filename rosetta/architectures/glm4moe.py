"""GLM-4.5 to 4.7 and Solar Open: part rotary, a few dense layers, then sigmoid experts beside a shared one."""

from __future__ import annotations

from dataclasses import replace

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
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Sigmoid experts, whose groups, if any, are DeepSeek-V3's."""
    _experts(read, width=1408)
    leading_dense(read, of_folder(1), "first_k_dense_replace")


def solar_settings(read: SettingsReader) -> None:
    """The same in other sizes, with experts in all layers."""
    _experts(read, width=1280)
    leading_dense(read, 0)


def _experts(read: SettingsReader, width: int) -> None:
    expert_settings(
        read,
        count=of_folder(128),
        used=of_folder(8),
        width=of_folder(width, None),
        gating=2,
        normalised=of_folder(True, False),
        scale=1.0,
    )
    expert_groups(read, of_folder(1), of_folder(1))
    shared_expert(read, of_folder(1, None), "n_shared_experts")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention, then experts; the network's norm goes by the name of attention's."""
    return mixture_layer(a, c, n, ffn_norm="post_attention_norm")


GLM4_MOE = Architecture(
    "glm4moe",
    gguf="glm4moe",
    classes=(
        "Glm4MoeForCausalLM",
        "glm4_moe",
        "Glm4vMoeForConditionalGeneration",
        "glm4v_moe",
        "glm4v_moe_text",
    ),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    qk_norm=True,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        reads=frozenset({"partial_rotary_factor"}),
        model_type="glm4_moe",
        defaults={  # transformers, Glm4MoeConfig
            "block_count": 46,
            "context_length": 131072,
            "embedding_length": 4096,
            "feed_forward_length": 10944,
            "attention.head_count": 96,
            "attention.head_count_kv": 8,
            "vocab_size": 151552,
            "tied_embeddings": False,
            "rope.partial_rotary_factor": 0.5,
        },
        spellings={
            "expert_count": "n_routed_experts",
        },
        flags={"attention_bias": False, "use_qk_norm": False},
        names={
            **gated("mlp.shared_experts", "_shexp"),
            "model.layers.{bid}.post_attention_layernorm": "blk.{bid}.post_attention_norm",
        },
        parameters=SCORE_CORRECTION,
    ),
    llamacpp=LlamaCpp(reads=llamacpp_keys.EXPERTS | {"rope.dimension_sections"}),
)
SOLAR_OPEN = replace(
    GLM4_MOE,
    name="solar_open",
    classes=("SolarOpenForCausalLM",),
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=1e6),
    qk_norm=False,
    settings=solar_settings,
    huggingface=replace(
        GLM4_MOE.huggingface,
        model_type="",
        defaults={  # transformers, SolarOpenConfig
            "block_count": 48,
            "context_length": 131072,
            "embedding_length": 4096,
            "feed_forward_length": 10240,
            "attention.head_count": 64,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "vocab_size": 196608,
            "tied_embeddings": False,
        },
        flags={"attention_bias": False},
    ),
)
