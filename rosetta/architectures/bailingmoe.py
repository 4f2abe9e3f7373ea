"""Ling and Ring (BailingMoE): llama with small experts beside shared ones; q, k and v fused."""

from __future__ import annotations

from rosetta.architectures import INTERLEAVED, SPLIT_HALF, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.expert_settings import (
    expert_groups,
    expert_settings,
    leading_dense,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.containers.container import Setting
from rosetta.settings_reader import SettingsReader

SHARED = "expert_shared_feed_forward_length"


def settings(read: SettingsReader) -> None:
    """Softmax experts."""
    expert_settings(
        read,
        width=Default(apr=None, gguf=None, huggingface=1408),
        normalised=of_folder(True, False),
        scale=1.0,
    )
    shared_expert(read, 0, "num_shared_experts")
    leading_dense(read, 0, "first_k_dense_replace")


def v2_settings(read: SettingsReader) -> None:
    """Experts in groups, of the function that the file names."""
    expert_settings(
        read,
        width=Default(apr=None, gguf=None, huggingface=1024),
        gating=2,
        normalised=of_folder(True, False),
        scale=1.0,
    )
    expert_groups(read, of_folder(1), of_folder(1))
    shared = read.raw(SHARED)
    shared_expert(read, 0, "num_shared_experts")
    own = read.spelled("moe_shared_expert_intermediate_size")
    if own is not None and read.container.kind == "huggingface":
        # conversion/bailingmoe.py: it goes before the count.
        count = read.spelled("num_shared_experts")
        read.by_layer(SHARED, [own.value * (count.value if count is not None else 1)], stated=own.key)
    number = read.raw("expert_shared_count")
    if (
        read.container.kind == "gguf"
        and shared is not None
        and number is not None
        and SHARED not in read.overrides
    ):
        read.put(SHARED, Setting(shared.value * number.value, shared.key), None)  # the width of one
    leading_dense(read, 0, "first_k_dense_replace")


BAILINGMOE = Architecture(
    "bailingmoe",
    gguf="bailingmoe",
    classes=("BailingMoeForCausalLM", "bailing_moe"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope=INTERLEAVED,
    settings=settings,
    layer=mixture_layer,
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # the published configuration_bailing_moe.py; transformers has none
            "block_count": 28,
            "context_length": 16384,
            "embedding_length": 2048,
            "feed_forward_length": 5632,
            "attention.head_count": 16,
            "vocab_size": 126464,
            "tied_embeddings": False,
        },
        names={
            **gated("mlp.shared_experts", "_shexp"),
            "model.layers.{bid}.attention.dense": "blk.{bid}.attn_output",
            "model.layers.{bid}.attention.query_key_value": "blk.{bid}.attn_qkv",
            "model.word_embeddings": "token_embd",
        },
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.EXPERTS - {"expert_gating_func"},
        unread=frozenset({"leading_dense_block_count"}),  # all layers have experts
        keys={"leading_dense_block_count": lambda c: 0},
    ),
)
BAILINGMOE2 = Architecture(
    "bailingmoe2",
    gguf="bailingmoe2",
    classes=("BailingMoeV2ForCausalLM", "bailing_moe_v2"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope=SPLIT_HALF,
    qk_norm=True,
    settings=v2_settings,
    layer=mixture_layer,
    huggingface=HuggingFace(
        in_transformers=False,
        defaults=BAILINGMOE.huggingface.defaults,
        names={
            **BAILINGMOE.huggingface.names,
            "model.layers.{bid}.attention.key_layernorm": "blk.{bid}.attn_k_norm",
            "model.layers.{bid}.attention.query_layernorm": "blk.{bid}.attn_q_norm",
        },
        parameters={
            "model.layers.{bid}.mlp.gate.expert_bias": "blk.{bid}.exp_probs_b",
        },
    ),
    llamacpp=LlamaCpp(reads=llamacpp_keys.EXPERTS | {"expert_shared_feed_forward_length"}),
)
