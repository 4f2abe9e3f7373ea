"""Qwen3.5: qwen3next with a dense network, a projection for each part, and value heads in another order in GGUF."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors, llamacpp_keys
from rosetta.architectures.parts.builders import feed_forward, output_of, sequential
from rosetta.architectures.parts.expert_settings import INTERLEAVED_SECTIONS, rotary_sections
from rosetta.architectures.parts.readings import Reading, Stored
from rosetta.architectures.parts.recurrent import RECURRENT, delta_net
from rosetta.architectures.parts.stated_kinds import RECURRENT_LISTED
from rosetta.architectures.qwen3next import delta_settings, gated_attention, gated_readings
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.recurrent import GROUPS, INNER, RANK, STATE
from rosetta.row_order import GroupOrder, Order, WithinRows
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Delta nets, and the rotary sections of three kinds of positions, which are one and the same of a text."""
    delta_settings(read)
    rotary_sections(read, [11, 11, 10], in_turns=True)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A delta net or attention, then a dense network."""
    delta = delta_net(a.norm_of("attn_norm"), a.epsilon_key, tiled=True)
    mixer = delta if c[RECURRENT] else gated_attention(a, c)
    return sequential(output_of(n - 1), mixer, feed_forward(norm=a.norm_of("post_attention_norm")))


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """Value heads that share a key lie beside each other in a folder, and a whole set of keys apart in GGUF."""
    found = gated_readings(stored, c)
    if not stored.foreign or not c.get(RECURRENT) or stored.layer is None:
        return found
    if found and len(found) > 1:  # experts, stacked
        return found
    name = f"{stored.stem}.{stored.suffix}" if stored.suffix else stored.stem
    [reading] = found or [Reading(name)]
    width, keys = c[INNER] // c[RANK], 2 * c[GROUPS] * c[STATE]
    if stored.stem in ("attn_qkv", "ssm_conv1d"):
        return [replace(reading, order=WithinRows(keys, keys + c[INNER], _tiled(c, width)))]
    if stored.stem in ("attn_gate", "ssm_alpha", "ssm_beta", "ssm_a", "ssm_dt"):
        order: Order = _tiled(c, width if stored.stem == "attn_gate" else 1)
        return [replace(reading, order=order)]
    if stored.stem == "ssm_out":
        return [replace(reading, columns=_tiled(c, width))]
    return found


def _tiled(c: Settings, size: int) -> GroupOrder:
    return GroupOrder(c[GROUPS], c[RANK] // c[GROUPS], size)


# Layers that attend have a gate and three matrices too, under other names.
DELTA_NET_ALONE = {
    "model.layers.{bid}.linear_attn.in_proj_qkv": "blk.{bid}.ssm_out",
    "model.layers.{bid}.linear_attn.in_proj_z": "blk.{bid}.ssm_out",
}
QWEN35 = Architecture(
    "qwen35",
    gguf="qwen35",
    classes=("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration", "qwen3_5", "qwen3_5_text"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    settings=settings,
    readings=readings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="qwen3_5_text",
        defaults={  # transformers, Qwen3_5TextConfig
            "block_count": 32,
            "context_length": 32768,
            "embedding_length": 4096,
            "feed_forward_length": 12288,
            "attention.head_count": 16,
            "attention.head_count_kv": 4,
            "attention.key_length": 256,
            "vocab_size": 248320,
            "tied_embeddings": False,
            "rope.partial_rotary_factor": 0.25,
        },
        keys=INTERLEAVED_SECTIONS,
        flags={"attention_bias": False},
        says_anyway={"attn_output_gate": True},
        names={
            "model.layers.{bid}.linear_attn.conv1d": "blk.{bid}.ssm_conv1d",
            "model.layers.{bid}.linear_attn.in_proj_a": "blk.{bid}.ssm_alpha",
            "model.layers.{bid}.linear_attn.in_proj_b": "blk.{bid}.ssm_beta",
            "model.layers.{bid}.linear_attn.in_proj_qkv": "blk.{bid}.attn_qkv",
            "model.layers.{bid}.linear_attn.in_proj_z": "blk.{bid}.attn_gate",
            "model.layers.{bid}.linear_attn.norm": "blk.{bid}.ssm_norm",
            "model.layers.{bid}.linear_attn.out_proj": "blk.{bid}.ssm_out",
            "model.layers.{bid}.post_attention_layernorm": "blk.{bid}.post_attention_norm",
        },
        parameters={
            "model.layers.{bid}.linear_attn.A_log": "blk.{bid}.ssm_a",
            "model.layers.{bid}.linear_attn.dt_bias": "blk.{bid}.ssm_dt.bias",
        },
        only_beside=DELTA_NET_ALONE,
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.DELTA | {"rope.dimension_sections"},
        keys=RECURRENT_LISTED,
        factors=factors.ATTENTION | factors.NETWORK | factors.DELTA,
        tiles_heads=True,
    ),
)
