"""Laguna: heads by layer, each with a gate, YaRN in layers without a window, sigmoid experts beside a shared one."""

from __future__ import annotations

from rosetta.architectures import SPLIT_HALF, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.builders import HEADS, VALUE
from rosetta.architectures.parts.expert_settings import (
    expert_settings,
    leading_dense,
    no_pattern_without_window,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.mixtures import mixture_layer, router_of
from rosetta.architectures.parts.stated_kinds import PATTERN, network_kinds, window_kinds
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Gate
from rosetta.ops.rotary import Rotary
from rosetta.setting_values import listed
from rosetta.settings_reader import SettingsReader

STEP = 4  # of so many layers the first sees all, where a GGUF does not say
SLIDING = "rope_parameters.sliding_attention"


def settings(read: SettingsReader) -> None:
    """The experts, heads by layer, the rotation of layers with a window, and what the gate is for."""
    expert_settings(
        read,
        count=of_folder(256, None),
        used=of_folder(8, None),
        width=of_folder(512, None),
        gating=2,
        normalised=of_folder(True, False),
        scale=1.0,
    )
    if read.container.kind == "gguf":
        shared_expert(read, 1)
    else:
        read.take("expert_shared_feed_forward_length", "count", 512)
    cap = ("moe_router_logit_softcapping",)
    read.take("expert_softcap", "number", 0.0, cap)
    leading_dense(read, of_folder(1))
    _layers(read)
    read.take("rope.freq_base_swa", "number", of_folder(10000.0, read.config["rope.freq_base"].value))
    size = read.config["attention.key_length"].value
    share = read.spelled(f"{SLIDING}.partial_rotary_factor")
    turned = int(size * share.value) if share is not None else size
    if read.container.kind == "gguf":
        turned = read.config["rope.dimension_count"].value
    read.take("rope.dimension_count_swa", "count", turned)
    gate = read.spelled("gating") if read.container.kind != "gguf" else None
    read.by_layer(
        "attention.gate_per_head", [_per_head(read)], "worked out from the gate", gate.key if gate else None
    )


def _layers(read: SettingsReader) -> None:
    """Heads by layer, and which layers have a window."""
    layers = range(read.config["block_count"].value)
    heads = read.spelled("num_attention_heads_per_layer")
    if heads is not None and isinstance(heads.value, list) and "attention.head_count" not in read.overrides:
        read.by_layer("attention.head_count", heads.value[: len(layers)], stated=heads.key)
    if read.raw(PATTERN) is None and PATTERN in read.config:
        folder = read.container.kind != "gguf"
        read.by_layer(PATTERN, [not folder and n % STEP != 0 for n in layers], "the layers that slide")
    no_pattern_without_window(read)


def _per_head(read: SettingsReader) -> bool:
    """Whether the gate is one number a head: what a folder says, or the rows of a GGUF's matrix."""
    if read.container.kind != "gguf":
        stated = read.spelled("gating")
        return stated is None or stated.value is True or stated.value == "per-head"
    entry = read.container.tensors.get("blk.0.attn_gate.weight")
    rows = entry.dims[0] if entry is not None and entry.dims else 0
    heads = read.config["attention.head_count"].value
    first = heads[0] if isinstance(heads, tuple) else heads
    return bool(rows == first)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Gated attention, then experts or a dense network."""
    slides = bool(c[PATTERN])
    swa = Rotary(SPLIT_HALF, "rope.dimension_count_swa", "rope.freq_base_swa", scaling=None)
    mixer = {
        "rope": swa if slides else Rotary(SPLIT_HALF),
        "gate": Gate("softplus"),
        "gate_rows": HEADS if c["attention.gate_per_head"] else (HEADS, VALUE),
    }
    return mixture_layer(a, c, n, mixer=mixer, router=router_of(c, softcap="expert_softcap"))


LAGUNA = Architecture(
    "laguna",
    gguf="laguna",
    classes=("LagunaForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope_theta=Default(apr=5e5, gguf=10000.0, huggingface=5e5),
    qk_norm=True,
    full_attention_every=STEP,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        reads=frozenset({"partial_rotary_factor"}),
        only_with={"moe_apply_router_weight_on_input": (False,)},
        defaults={  # transformers, LagunaConfig
            "block_count": 40,
            "context_length": 131072,
            "embedding_length": 2048,
            "feed_forward_length": 8192,
            "attention.head_count": 48,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "attention.sliding_window": 512,
            "rope.scaling": {"rope_type": "default", "partial_rotary_factor": 0.5},
            "vocab_size": 100352,
            "tied_embeddings": False,
        },
        spellings={
            "expert_weights_scale": "moe_routed_scaling_factor",
            "expert_softcap": "moe_router_logit_softcapping",
        },
        keys={
            "num_attention_heads": lambda c: listed(c, HEADS)[0],
            "num_attention_heads_per_layer": lambda c: listed(c, HEADS),
            "layer_types": window_kinds,
            "mlp_layer_types": network_kinds,
            "gating": lambda c: "per-head" if c["attention.gate_per_head"].value else "per-element",
        },
        flags={"attention_bias": False},
        rotation_by_kind=True,
        names={
            **gated("mlp.shared_expert", "_shexp"),
            "model.layers.{bid}.self_attn.g_proj": "blk.{bid}.attn_gate",
            "model.layers.{bid}.post_attention_layernorm": "blk.{bid}.ffn_norm",
            "model.layers.{bid}.mlp.experts.e_score_correction": "blk.{bid}.exp_probs_b",
        },
        parameters={
            "model.layers.{bid}.mlp.experts.e_score_correction_bias": "blk.{bid}.exp_probs_b.bias",
        },
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.EXPERTS | {"expert_shared_feed_forward_length", "rope.freq_base_swa"},
        keys={HEADS: lambda c: listed(c, HEADS)},
    ),
)
