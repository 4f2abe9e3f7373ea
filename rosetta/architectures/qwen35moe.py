"""Qwen3.5-MoE: qwen35 with a mixture of experts in place of the network."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp, qwen35
from rosetta.architectures.parts import factors, llamacpp_keys
from rosetta.architectures.parts.builders import output_of, sequential
from rosetta.architectures.parts.expert_settings import INTERLEAVED_SECTIONS
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.recurrent import RECURRENT, delta_net
from rosetta.architectures.parts.stated_kinds import RECURRENT_LISTED
from rosetta.architectures.qwen3next import gated_attention, mixture, mixture_settings
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Delta nets and experts."""
    qwen35.settings(read)
    mixture_settings(read, count=256, used=8)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A delta net or attention, then experts."""
    delta = delta_net(a.norm_of("attn_norm"), a.epsilon_key, tiled=True)
    return sequential(output_of(n - 1), delta if c[RECURRENT] else gated_attention(a, c), mixture(a))


QWEN35MOE = Architecture(
    "qwen35moe",
    gguf="qwen35moe",
    classes=(
        "Qwen3_5MoeForCausalLM",
        "Qwen3_5MoeForConditionalGeneration",
        "qwen3_5_moe",
        "qwen3_5_moe_text",
    ),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    feed_forward=False,
    settings=settings,
    readings=qwen35.readings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="qwen3_5_moe_text",
        defaults={  # transformers, Qwen3_5MoeTextConfig
            "block_count": 40,
            "context_length": 32768,
            "embedding_length": 2048,
            "attention.head_count": 16,
            "attention.head_count_kv": 2,
            "attention.key_length": 256,
            "vocab_size": 248320,
            "tied_embeddings": False,
            "rope.partial_rotary_factor": 0.25,
        },
        keys=INTERLEAVED_SECTIONS,
        flags={"attention_bias": False},
        says_anyway={"attn_output_gate": True},
        names={
            **gated("mlp.shared_expert", "_shexp"),
            "model.layers.{bid}.linear_attn.conv1d": "blk.{bid}.ssm_conv1d",
            "model.layers.{bid}.linear_attn.in_proj_a": "blk.{bid}.ssm_alpha",
            "model.layers.{bid}.linear_attn.in_proj_b": "blk.{bid}.ssm_beta",
            "model.layers.{bid}.linear_attn.in_proj_qkv": "blk.{bid}.attn_qkv",
            "model.layers.{bid}.linear_attn.in_proj_z": "blk.{bid}.attn_gate",
            "model.layers.{bid}.linear_attn.norm": "blk.{bid}.ssm_norm",
            "model.layers.{bid}.linear_attn.out_proj": "blk.{bid}.ssm_out",
            "model.layers.{bid}.mlp.shared_expert_gate": "blk.{bid}.ffn_gate_inp_shexp",
            "model.layers.{bid}.post_attention_layernorm": "blk.{bid}.post_attention_norm",
        },
        parameters={
            "model.layers.{bid}.linear_attn.A_log": "blk.{bid}.ssm_a",
            "model.layers.{bid}.linear_attn.dt_bias": "blk.{bid}.ssm_dt.bias",
        },
        only_beside=qwen35.DELTA_NET_ALONE,
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.DELTA
        | {
            "expert_feed_forward_length",
            "expert_shared_feed_forward_length",
            "rope.dimension_sections",
        },
        keys=RECURRENT_LISTED,
        factors=factors.ATTENTION | factors.EXPERTS | factors.SHARED | factors.DELTA,
        tiles_heads=True,
    ),
)
