"""LFM2-MoE: lfm2 with a mixture of experts in all but the first layers."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.lfm2 import (
    EPSILON,
    LFM2,
    NAMES,
    NORMED_HEADS,
    THETA,
    convolution_settings,
    mixer_of,
)
from rosetta.architectures.parts.builders import output_of, sequential
from rosetta.architectures.parts.expert_settings import expert_settings, leading_dense
from rosetta.architectures.parts.folder_names import in_layers
from rosetta.architectures.parts.mixtures import network
from rosetta.graph import Stage
from rosetta.ops.experts import SIGMOID
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Convolutions and experts."""
    convolution_settings(read)
    expert_settings(
        read,
        count=Default(apr=None, gguf=None, huggingface=32),
        used=Default(apr=None, gguf=None, huggingface=4),
        width=Default(apr=None, gguf=None, huggingface=1792),
        gating=SIGMOID,
        normalised=True,
        scale=1.0,
    )
    leading_dense(read, Default(apr=2, gguf=0, huggingface=2), "num_dense_layers")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A short convolution or attention, then experts, or a dense network in the first layers."""
    norm = a.norm_of("ffn_norm")
    return sequential(output_of(n - 1), mixer_of(a, c), network(a, c, norm=norm))


LFM2MOE = Architecture(
    "lfm2moe",
    gguf="lfm2moe",
    classes=("Lfm2MoeForCausalLM", "lfm2_moe"),
    norm_epsilon=EPSILON,
    rope_theta=THETA,
    settings=settings,
    readings=LFM2.readings,
    layer=layer,
    after=LFM2.after,
    huggingface=HuggingFace(
        unread=frozenset({"activation"}),
        model_type="lfm2_moe",
        defaults={  # transformers, Lfm2MoeConfig
            "block_count": 32,
            "context_length": 128000,
            "embedding_length": 2048,
            "feed_forward_length": 7168,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "vocab_size": 65536,
            "tied_embeddings": True,
        },
        spellings={
            "attention.layer_norm_rms_epsilon": "norm_eps",
            "tied_embeddings": "tie_embedding",
        },
        flags={"conv_bias": False, "use_expert_bias": True},
        says_anyway={"use_pos_enc": True},
        names={
            **NAMES,
            **NORMED_HEADS,
            **in_layers(
                {
                    "feed_forward.experts.{eid}.w1": "ffn_gate_exps.{eid}",
                    "feed_forward.experts.{eid}.w2": "ffn_down_exps.{eid}",
                    "feed_forward.experts.{eid}.w3": "ffn_up_exps.{eid}",
                    "feed_forward.gate": "ffn_gate_inp",
                    "feed_forward.experts.w1": "ffn_gate_exps",
                    "feed_forward.experts.w2": "ffn_down_exps",
                    "feed_forward.experts.w3": "ffn_up_exps",
                }
            ),
        },
        parameters={
            "model.layers.{bid}.feed_forward.expert_bias": "blk.{bid}.exp_probs_b.bias",
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset(
            {
                "expert_feed_forward_length",
                "expert_gating_func",
                "leading_dense_block_count",
                "shortconv.l_cache",
            }
        ),
    ),
)
