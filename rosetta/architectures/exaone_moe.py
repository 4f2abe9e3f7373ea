"""K-EXAONE: a window in three of four layers, the fourth without rotary, sigmoid experts beside a shared one."""

from __future__ import annotations

from rosetta.architectures import SPLIT_HALF, Architecture, Default, HuggingFace, LlamaCpp
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
from rosetta.architectures.parts.stated_kinds import SLIDING_LISTED
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import Rotary
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Sigmoid experts."""
    expert_settings(
        read,
        count=of_folder(64, None),
        used=of_folder(8, None),
        width=of_folder(1024, None),
        gating=2,
        normalised=of_folder(True, False),
        scale=of_folder(2.5, 1.0),
    )
    expert_groups(read, of_folder(1), of_folder(1))
    shared_expert(read, 1, "num_shared_experts")
    leading_dense(read, of_folder(1), "first_k_dense_replace")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention, turned where it has a window, then experts or a dense network."""
    rope = Rotary(SPLIT_HALF, where="attention.sliding_window_pattern")
    return mixture_layer(a, c, n, mixer={"rope": rope})


EXAONE_MOE = Architecture(
    "exaone-moe",
    gguf="exaone-moe",
    classes=("ExaoneMoeForCausalLM", "exaone_moe"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    qk_norm=True,
    full_attention_every=4,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="exaone_moe",
        defaults={  # transformers, ExaoneMoeConfig
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 16384,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "attention.sliding_window": 4096,
            "vocab_size": 102400,
            "tied_embeddings": False,
        },
        names=gated("mlp.shared_experts", "_shexp"),
        parameters={
            "model.layers.{bid}.mlp.e_score_correction_bias": "blk.{bid}.exp_probs_b.bias",
        },
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.EXPERTS | {"expert_shared_feed_forward_length", "rope.freq_base_swa"},
        keys=SLIDING_LISTED,
        windows="stretched",
    ),
)
