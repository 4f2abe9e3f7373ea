"""Kimi Linear: delta attention whose channels forget one by one, and latent attention without rotary; experts."""

from __future__ import annotations

import math

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.builders import HEADS, HIDDEN, Block, latent_attention, output_of, sequential
from rosetta.architectures.parts.expert_settings import (
    EACH_HEADS_OWN,
    expert_groups,
    expert_settings,
    latent_settings,
    leading_dense,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.folder_names import BLOCK_SPARSE, LATENT_KEYS
from rosetta.architectures.parts.mixtures import SHARED, network
from rosetta.architectures.parts.readings import (
    MINUS_EXP,
    QKV,
    Reading,
    Stored,
    fused,
    latent_keys_values,
    standard_readings,
)
from rosetta.architectures.parts.recurrent import (
    RECURRENT,
    RECURRENT_KINDS,
    recurrent_without_heads,
    state_sizes,
)
from rosetta.architectures.parts.stated_kinds import recurrent_kinds
from rosetta.graph import Stage
from rosetta.ops.delta_rule import ChannelDelta
from rosetta.ops.latent import LATENT_EPSILON, latent_norm
from rosetta.ops.linear import Linear
from rosetta.ops.op import Settings
from rosetta.ops.recurrent import KERNEL, Convolution, GatedNorm
from rosetta.setting_values import PerLayer, Value
from rosetta.settings_reader import SettingsReader

OWN_HEADS, WIDTH = "kda.head_count", "kda.head_dim"
INNER = (OWN_HEADS, WIDTH)


def settings(read: SettingsReader) -> None:
    """Delta attention, which layers have it, latent attention, experts."""
    folder, layers = read.container.kind == "huggingface", range(read.config["block_count"].value)
    kinds = read.spelled("layer_types")
    full = read.spelled("linear_attn_config.full_attn_layers")
    recurrent, stated = [not n or n % 4 != 0 for n in layers], None
    if full is not None:
        recurrent, stated = [n + 1 not in full.value for n in layers], full.key
    elif kinds is not None:
        recurrent, stated = [kind in RECURRENT_KINDS for kind in kinds.value], kinds.key
    recurrent_without_heads(read, recurrent, stated)
    for key, spelling, published in (
        (KERNEL, ("short_conv_kernel_size", "linear_conv_kernel_dim"), 4),
        (WIDTH, ("head_dim", "linear_head_dim"), 128),
    ):
        nested, flat = f"linear_attn_config.{spelling[0]}", spelling[1]
        name = nested if read.spelled(nested) is not None else flat
        state_sizes(read, {key: (name,)}, {flat: published})
    _attention(read, folder)
    # Llama.cpp has one count for both kinds of layers (src/models/kimi-linear.cpp), transformers one for each.
    spellings = ("linear_attn_config.num_heads", "linear_num_heads")
    own, note = (32, "") if folder else (read.config[HEADS].value, "the heads of attention")
    read.take(OWN_HEADS, "count", own, spellings, note=note)
    norms = read.config[read.architecture.epsilon_key].value
    own = Default(apr=1e-6, gguf=norms, huggingface=1e-6)
    read.take(LATENT_EPSILON, "number", own)
    read.take("ssm.l2_epsilon", "number", own)
    _experts(read)


def _attention(read: SettingsReader, folder: bool) -> None:
    """Sizes of latent attention; recurrent layers keep their count of no heads."""
    recurrent = read.config[RECURRENT].value
    heads = read.config[HEADS]
    if isinstance(heads.value, PerLayer):  # what llama.cpp writes itself has none in recurrent layers
        read.config[HEADS] = Value(max(heads.value), heads.key)
    read.count("rope.dimension_count", 64 if folder else None)
    latent_settings(read, query_rank=0, rank=512, own=128, value=128)
    length, heads = read.config["attention.key_length"].value, read.config[HEADS].value
    read.number("attention.scale", 1 / math.sqrt(length), "1/√(key length)")
    layers = range(read.config["block_count"].value)
    each = [recurrent[n] if isinstance(recurrent, tuple) else recurrent for n in layers]
    read.by_layer("attention.head_count_kv", [0 if holds else heads for holds in each], EACH_HEADS_OWN)


def _experts(read: SettingsReader) -> None:
    expert_settings(
        read,
        count=of_folder(256, None),
        used=of_folder(8, None),
        width=of_folder(1024, None),
        gating=2,
        normalised=True,
        scale=of_folder(2.446, 1.0),
    )
    expert_groups(read, 1, 1)
    shared_expert(read, of_folder(1, None), "num_shared_experts", "n_shared_experts")
    if read.container.kind == "gguf" and not read.config[SHARED].value and SHARED not in read.overrides:
        each = read.config["expert_feed_forward_length"].value
        read.put(SHARED, None, each, "one, in llama.cpp, where none is counted")
    leading_dense(read, of_folder(1, 0), "first_k_dense_replace")


def delta_attention(a: Architecture) -> Block:
    """Queries, keys and values convolved each by itself, the state, a norm and a gate out of a low rank."""

    def block(x: str) -> list[Stage]:
        stages = [Stage("attn_norm", a.norm_of("attn_norm"), (x,))]
        for part in "qkv":
            stages.append(Stage(part, Linear(f"attn_{part}", rows=INNER, columns=HIDDEN), ("attn_norm",)))
        for part in "qkv":
            stem = f"ssm_conv1d_{part}"
            stages.append(Stage(stem, Convolution(stem, channels=INNER), (part,)))
        for part in "fg":  # what is forgotten, and the gate
            first, second = (f"ssm_{part}_{place}" for place in "ab")
            stages.append(Stage(first, Linear(first, rows=WIDTH, columns=HIDDEN), ("attn_norm",)))
            stages.append(Stage(second, Linear(second, rows=INNER, columns=WIDTH), (first,)))
        stages.append(Stage("ssm_beta", Linear("ssm_beta", rows=OWN_HEADS, columns=HIDDEN), ("attn_norm",)))
        seen = (*(f"ssm_conv1d_{part}" for part in "qkv"), "ssm_f_b", "ssm_beta")
        closing = GatedNorm("ssm_norm", a.epsilon_key, width=(WIDTH,), channels=INNER, function="sigmoid")
        return [
            *stages,
            Stage("ssm_scan", ChannelDelta(OWN_HEADS, WIDTH), seen),
            Stage("ssm_norm", closing, ("ssm_scan", "ssm_g_b")),
            Stage("attn_out", Linear("attn_output", rows=HIDDEN, columns=INNER), ("ssm_norm",)),
        ]

    return block


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Delta attention or latent attention, then experts, or a dense network in the first layers."""
    mixer = delta_attention(a)
    if not c[RECURRENT]:
        mixer = latent_attention(
            norm=a.norm_of("attn_norm"),
            rope=None,
            latent_norm=latent_norm,
            low_rank_queries=c["attention.q_lora_rank"] > 0,
        )
    return sequential(output_of(n - 1), mixer, network(a, c, norm=a.norm_of("ffn_norm")))


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """A folder has the logarithm of A; other dims of one are written here and there."""
    if stored.stem == "ssm_a":
        edit = MINUS_EXP if stored.foreign else None
        return [Reading("ssm_a", dims=(math.prod(stored.dims), 1), edit=edit)]
    if stored.stem.startswith("ssm_conv1d_") and stored.dims:
        taps = stored.dims[-1]
        return [Reading(f"{stored.stem}.weight", dims=(math.prod(stored.dims[:-1]), taps))]
    if stored.stem == "ssm_beta" and len(stored.dims) == 1:  # of one head, whose dim ggml drops
        return [Reading(f"ssm_beta.{stored.suffix}", dims=(1, *stored.dims))]
    if stored.stem == "attn_qkv" and c[RECURRENT]:  # llama.cpp takes them apart (src/models/kimi-linear.cpp)
        return fused(stored, QKV, [c[OWN_HEADS] * c[WIDTH]] * 3)
    found = latent_keys_values(stored, c) or standard_readings(stored, c)
    return None if found is None else list(found)


MOE = "model.layers.{bid}.block_sparse_moe"
KIMI_LINEAR = Architecture(
    "kimi-linear",
    gguf="kimi-linear",
    classes=("KimiLinearForCausalLM", "KimiLinearModel", "kimi_linear"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=None,
    settings=settings,
    readings=readings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="kimi_linear",
        defaults={  # transformers, KimiLinearConfig
            "block_count": 27,
            "context_length": 1048576,
            "embedding_length": 2304,
            "feed_forward_length": 9216,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "vocab_size": 163840,
            "tied_embeddings": False,
        },
        spellings={
            "context_length": "model_max_length",
            "expert_weights_norm": "moe_renormalize",
            "expert_group_count": "num_expert_group",
            "rope.dimension_count": "qk_rope_head_dim",
            "expert_used_count": "num_experts_per_token",
        },
        keys={
            "layer_types": recurrent_kinds,
            "linear_num_heads": lambda c: c[OWN_HEADS].value,
            "linear_head_dim": lambda c: c[WIDTH].value,
            "linear_conv_kernel_dim": lambda c: c[KERNEL].value,
            "num_key_value_heads": lambda c: c[HEADS].value,
        },
        flags={"attention_bias": False},
        names={
            **LATENT_KEYS,
            **BLOCK_SPARSE,
            "model.layers.{bid}.block_sparse_moe.down_proj": "blk.{bid}.ffn_down",
            "model.layers.{bid}.block_sparse_moe.gate_proj": "blk.{bid}.ffn_gate",
            "model.layers.{bid}.block_sparse_moe.up_proj": "blk.{bid}.ffn_up",
            "model.layers.{bid}.self_attn.b_proj": "blk.{bid}.ssm_beta",
            "model.layers.{bid}.self_attn.f_a_proj": "blk.{bid}.ssm_f_a",
            "model.layers.{bid}.self_attn.f_b_proj": "blk.{bid}.ssm_f_b",
            "model.layers.{bid}.self_attn.g_a_proj": "blk.{bid}.ssm_g_a",
            "model.layers.{bid}.self_attn.g_b_proj": "blk.{bid}.ssm_g_b",
            "model.layers.{bid}.self_attn.k_conv1d": "blk.{bid}.ssm_conv1d_k",
            "model.layers.{bid}.self_attn.o_norm": "blk.{bid}.ssm_norm",
            "model.layers.{bid}.self_attn.q_conv1d": "blk.{bid}.ssm_conv1d_q",
            "model.layers.{bid}.self_attn.v_conv1d": "blk.{bid}.ssm_conv1d_v",
            "model.layers.{bid}.block_sparse_moe.shared_experts.down_proj": "blk.{bid}.ffn_down_shexp",
            "model.layers.{bid}.block_sparse_moe.shared_experts.gate_proj": "blk.{bid}.ffn_gate_shexp",
            "model.layers.{bid}.block_sparse_moe.shared_experts.up_proj": "blk.{bid}.ffn_up_shexp",
        },
        parameters={
            "model.layers.{bid}.self_attn.A_log": "blk.{bid}.ssm_a",
            "model.layers.{bid}.self_attn.dt_bias": "blk.{bid}.ssm_dt.bias",
            "model.layers.{bid}.block_sparse_moe.gate.e_score_correction_bias": "blk.{bid}.exp_probs_b.bias",
        },
        dims={"ssm_a": (1, 1, -1, 1)},
    ),
    llamacpp=LlamaCpp(
        reads=(llamacpp_keys.EXPERTS - {"expert_weights_norm"})
        | {
            "attention.key_length_mla",
            "attention.kv_lora_rank",
            "attention.value_length_mla",
            "kda.head_dim",
            "ssm.conv_kernel",
        },
        padded=("ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v"),
        factors=frozenset(("attn_output",)),
        idle=frozenset(f"attn_{part}.bias" for part in ("q", "k", "v", "qkv")),
        instead={"ssm_beta.weight": "attn_output.scale"},  # a delta net's is multiplied with no factor
    ),
)
