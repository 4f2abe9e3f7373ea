"""Qwen3-Next: three gated delta nets, then attention with a gate, each before a mixture with a gated shared expert."""

from __future__ import annotations

from functools import partial

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors, llamacpp_keys
from rosetta.architectures.parts.builders import (
    Block,
    attention,
    experts,
    feed_forward,
    output_of,
    rotary_of,
    scores_of,
    sequential,
)
from rosetta.architectures.parts.expert_settings import expert_settings, stepped_layers
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.readings import (
    Reading,
    Stored,
    first_of,
    fused,
    one_more_where,
    standard_readings,
)
from rosetta.architectures.parts.recurrent import (
    RECURRENT,
    delta_net,
    recurrent_layers,
    state_readings,
    state_sizes,
)
from rosetta.architectures.parts.stated_kinds import RECURRENT_LISTED
from rosetta.graph import Stage
from rosetta.ops.experts import Router
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Gate
from rosetta.ops.recurrent import GROUPS, INNER, KERNEL, RANK, STATE
from rosetta.ops.rotary import SPLIT_HALF
from rosetta.row_order import Part
from rosetta.settings_reader import SettingsReader

ONE_MORE = ("attn_norm", "post_attention_norm", "attn_q_norm", "attn_k_norm", "output_norm")
SPELLINGS = {
    KERNEL: ("linear_conv_kernel_dim",),
    STATE: ("linear_key_head_dim",),
    GROUPS: ("linear_num_key_heads",),
    RANK: ("linear_num_value_heads",),
    INNER: ("linear_value_head_dim", "linear_num_value_heads"),
}
DEFAULTS = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
L2_EPSILON = 1e-6  # transformers, l2norm; llama.cpp takes that of the norms


def delta_settings(read: SettingsReader) -> None:
    """Sizes of the delta nets, and which layers are one."""
    recurrent_layers(read)
    state_sizes(read, SPELLINGS, DEFAULTS)
    own = read.config[read.architecture.epsilon_key].value if read.container.kind == "gguf" else L2_EPSILON
    read.take("ssm.l2_epsilon", "number", own, note="that of the norms in llama.cpp, 1e-6 in transformers")


def settings(read: SettingsReader) -> None:
    """Delta nets and experts."""
    delta_settings(read)
    mixture_settings(read, count=512, used=10)
    stepped_layers(read)


def mixture_settings(read: SettingsReader, count: int, used: int) -> None:
    """Experts of which those that are chosen share a weight of one, and one that serves all tokens.

    Args:
        read: the reader of the container's settings.
        count, used: how many there are and are used, where a folder does not say.
    """
    expert_settings(read, count=_folder(count), used=_folder(used), width=_folder(512), normalised=True)
    read.take("expert_shared_feed_forward_length", "count", _folder(512))


def _folder(value: int) -> Default:
    return Default(apr=None, gguf=None, huggingface=value)


def gated_attention(a: Architecture, c: Settings) -> Block:
    """Attention with normed heads, and a gate for each."""
    head_norm = partial(a.head_norm, optional=False)
    return attention(
        norm=a.norm_of("attn_norm"),
        rope=rotary_of(c, SPLIT_HALF),
        head_norm=head_norm,
        scores=scores_of(c),
        gate=Gate("sigmoid"),
    )


def mixture(a: Architecture) -> Block:
    """Experts beside a shared one that is weighed by a sigmoid."""
    return experts(
        norm=a.norm_of("post_attention_norm"),
        router=Router(normalised="expert_weights_norm", gating="expert_gating_func"),
        shared="expert_shared_feed_forward_length",
        shared_gate=True,
    )


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A delta net or attention, then experts, or a dense network where the layer has none."""
    mixer = (
        delta_net(a.norm_of("attn_norm"), a.epsilon_key, tiled=False)
        if c[RECURRENT]
        else gated_attention(a, c)
    )
    network = mixture(a) if c["expert_layers"] else feed_forward(norm=a.norm_of("post_attention_norm"))
    return sequential(output_of(n - 1), mixer, network)


def gated_readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """What holds of all models with delta nets: q and its gate beside each other for each head, norms of 1 + w, and
    `attn_qkv` whole in a layer that is recurrent."""
    if stored.stem == "attn_q" and not c[RECURRENT]:
        key, heads = c["attention.key_length"], c["attention.head_count"]
        return fused(stored, ("attn_q", "attn_gate"), (key, key), groups=heads)
    if stored.stem == "attn_qkv" and c[RECURRENT]:
        return [Reading(f"attn_qkv.{stored.suffix}")]
    if stored.stem == "attn_qkv":  # llama.cpp's loader takes one of any layer with attention
        heads, shared, key = (
            c["attention.head_count"],
            c["attention.head_count_kv"],
            c["attention.key_length"],
        )
        sizes = (key,) * (2 * heads + shared) + (c["attention.value_length"],) * shared
        places = {
            "attn_q": range(0, 2 * heads, 2),
            "attn_gate": range(1, 2 * heads, 2),
            "attn_k": range(2 * heads, 2 * heads + shared),
            "attn_v": range(2 * heads + shared, len(sizes)),
        }
        return [
            Reading(f"{stem}.{stored.suffix}", part=Part(first, sizes, also=tuple(more)))
            for stem, (first, *more) in places.items()
        ]
    found = first_of(one_more_where(*ONE_MORE), state_readings, standard_readings)(stored, c)
    return None if found is None else list(found)


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """Queries, keys, values and gate of a delta net beside each other for each key: in folders, and in old GGUF
    files."""
    if stored.stem == "ssm_in":
        each = c[INNER] // c[GROUPS]
        sizes = (c[STATE], c[STATE], each, each)
        return [
            Reading(f"attn_qkv.{stored.suffix}", part=Part(0, sizes, c[GROUPS], also=(1, 2))),
            Reading(f"attn_gate.{stored.suffix}", part=Part(3, sizes, c[GROUPS])),
        ]
    return gated_readings(stored, c)


QWEN3NEXT = Architecture(
    "qwen3next",
    gguf="qwen3next",
    classes=("Qwen3NextForCausalLM", "qwen3_next"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    settings=settings,
    readings=readings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="qwen3_next",
        defaults={  # transformers, Qwen3NextConfig
            "block_count": 48,
            "context_length": 32768,
            "embedding_length": 2048,
            "feed_forward_length": 5632,
            "attention.head_count": 16,
            "attention.head_count_kv": 2,
            "attention.key_length": 256,
            "vocab_size": 151936,
            "tied_embeddings": False,
            "rope.partial_rotary_factor": 0.25,
        },
        flags={"attention_bias": False},
        names={
            **gated("mlp.shared_expert", "_shexp"),
            "model.layers.{bid}.linear_attn.conv1d": "blk.{bid}.ssm_conv1d",
            "model.layers.{bid}.linear_attn.in_proj_ba": "blk.{bid}.ssm_ba",
            "model.layers.{bid}.linear_attn.in_proj_qkvz": "blk.{bid}.ssm_in",
            "model.layers.{bid}.linear_attn.norm": "blk.{bid}.ssm_norm",
            "model.layers.{bid}.linear_attn.out_proj": "blk.{bid}.ssm_out",
            "model.layers.{bid}.mlp.shared_expert_gate": "blk.{bid}.ffn_gate_inp_shexp",
            "model.layers.{bid}.post_attention_layernorm": "blk.{bid}.post_attention_norm",
        },
        parameters={
            "model.layers.{bid}.linear_attn.A_log": "blk.{bid}.ssm_a",
            "model.layers.{bid}.linear_attn.dt_bias": "blk.{bid}.ssm_dt.bias",
        },
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.DELTA
        | {
            "expert_feed_forward_length",
            "expert_shared_feed_forward_length",
        },
        keys=RECURRENT_LISTED,
        factors=(factors.ATTENTION | factors.EXPERTS | factors.SHARED) - {"attn_qkv"},
        instead={"attn_qkv.weight": "ssm_in.weight"},
    ),
)
