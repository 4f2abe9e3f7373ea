"""MiMo-V2-Flash: windows with sinks, more key heads and another rotary base in most layers, scaled values, sigmoid
experts."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import SPLIT_HALF, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import scores_of
from rosetta.architectures.parts.expert_settings import (
    expert_groups,
    expert_layers,
    expert_settings,
    layers_with_router,
    leading_dense,
    of_folder,
)
from rosetta.architectures.parts.folder_names import SCORE_CORRECTION
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.architectures.parts.stated_kinds import PATTERN, network_kinds, window_kinds
from rosetta.containers.container import Setting
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Add
from rosetta.ops.rotary import Rotary
from rosetta.setting_values import Config, PerLayer, listed
from rosetta.settings_reader import SettingsReader

VALUES, TURNED = "attention.value_scale", "rope.dimension_count_swa"
SINKS = "attention.sinks"


def settings(read: SettingsReader) -> None:
    """Sigmoid experts, key heads by layer, the base of layers with a window, the scale of values."""
    expert_settings(
        read,
        count=of_folder(256, None),
        used=of_folder(8, None),
        width=of_folder(2048, None),
        gating=2,
        normalised=True,
        scale=1.0,
    )
    expert_groups(read, of_folder(1), of_folder(1))
    read.take(VALUES, "number", of_folder(0.707, 1.0), ("attention_value_scale",))
    read.take("rope.freq_base_swa", "number", 10000.0, ("swa_rope_theta",))
    _rotated(read)
    if read.container.kind == "gguf":
        layers_with_router(read)
        _sinks(read)
        return
    _size_of_values(read)
    _layers(read)
    _sinks(read)
    flags = read.spelled("moe_layer_freq")
    if flags is not None and isinstance(flags.value, list):
        expert_layers(
            read, [bool(value) for value in flags.value][: read.config["block_count"].value], flags.key
        )
    else:
        leading_dense(read, 1)


def _size_of_values(read: SettingsReader) -> None:
    stated = read.spelled("v_head_dim")
    if "attention.value_length" not in read.overrides:
        found = None if stated is None else Setting(stated.value, stated.key)
        read.put("attention.value_length", found, 128, "default of transformers")


def _layers(read: SettingsReader) -> None:
    """Which layers have a window, and that those have twice as many key heads, or as many as stated."""
    layers = read.config["block_count"].value
    sliding = read.config[PATTERN].value
    flags = read.spelled("hybrid_layer_pattern")
    if read.raw(PATTERN) is None:
        default = [n > 0 and (n + 1) % 6 != 0 for n in range(layers)]
        sliding = [bool(value) for value in flags.value] if flags is not None else default
        read.by_layer(
            PATTERN, sliding[:layers], "the layers that slide", flags.key if flags is not None else None
        )
    sliding = list(sliding) if isinstance(sliding, PerLayer | list) else [sliding] * layers
    heads = read.config["attention.head_count_kv"].value
    stated = read.spelled("swa_num_key_value_heads")
    more = stated.value if stated is not None else 2 * heads
    if not isinstance(heads, PerLayer):
        read.by_layer("attention.head_count_kv", [more if s else heads for s in sliding], "by kind of layer")


def _sinks(read: SettingsReader) -> None:
    """Which layers have sinks: those with a window, and any for which a GGUF holds some."""
    sliding, layers = listed(read.config, PATTERN), range(read.config["block_count"].value)
    gguf, tensors = read.container.kind == "gguf", read.container.tensors
    held = [gguf and f"blk.{n}.attn_sinks.weight" in tensors for n in layers]
    read.by_layer(SINKS, [bool(sliding[n]) or held[n] for n in layers], "the layers with a window")


def _rotated(read: SettingsReader) -> None:
    """Layers with a window may rotate another part of each head."""
    share = read.raw("rope.swa_partial_rotary_factor")
    if share is not None and TURNED not in read.overrides:
        read.by_layer(TURNED, [int(read.size("attention.key_length") * share.value)], stated=share.key)
    else:
        read.take(TURNED, "count", read.config["rope.dimension_count"].value, note="as many as of the others")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention, in most layers with sinks, then experts or a dense network."""
    slides = bool(c[PATTERN])
    mixer = {
        "rope": Rotary(SPLIT_HALF, TURNED, "rope.freq_base_swa", None) if slides else Rotary(SPLIT_HALF),
        "scores": scores_of(c, sinks="attn_sinks" if c[SINKS] else None),
    }
    stages = mixture_layer(a, c, n, mixer=mixer)
    return [replace(stage, op=Add(VALUES)) if stage.name == "attn_residual" else stage for stage in stages]


def key_heads(c: Config) -> int:
    """Key heads as config.json counts them: those of layers without a window, which have half as many as the others."""
    both = list(zip(listed(c, "attention.head_count_kv"), listed(c, PATTERN), strict=True))
    return int(next((heads for heads, slides in both if not slides), both[0][0] // 2))


MIMO2 = Architecture(
    "mimo2",
    gguf="mimo2",
    classes=("MiMoV2FlashForCausalLM", "MiMoV2ForCausalLM", "mimo_v2_flash", "mimo_v2"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope_theta=Default(apr=5e6, gguf=10000.0, huggingface=5e6),
    full_attention_every=6,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        model_type="mimo_v2_flash",
        defaults={  # transformers, MiMoV2FlashConfig
            "block_count": 48,
            "context_length": 131072,
            "embedding_length": 4096,
            "feed_forward_length": 16384,
            "attention.head_count": 64,
            "attention.head_count_kv": 4,
            "attention.key_length": 192,
            "attention.sliding_window": 129,
            "rope.partial_rotary_factor": 0.334,
            "vocab_size": 152576,
            "tied_embeddings": False,
        },
        spellings={
            "expert_count": "n_routed_experts",
            "expert_weights_scale": "routed_scaling_factor",
        },
        keys={
            "num_key_value_heads": key_heads,
            "layer_types": window_kinds,
            "mlp_layer_types": network_kinds,
        },
        flags={"attention_bias": False},
        says_anyway={"topk_method": "noaux_tc", "attention_projection_layout": "split"},
        rotation_by_kind=True,
        names={
            "model.layers.{bid}.self_attn.sinks": "blk.{bid}.attn_sinks.weight",
        },
        parameters={
            **SCORE_CORRECTION,
            "model.layers.{bid}.self_attn.attention_sink_bias": "blk.{bid}.attn_sinks.weight",
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"attention.value_scale", "expert_feed_forward_length", "rope.freq_base_swa"}),
        unread=frozenset({TURNED}),
        keys={PATTERN: lambda c: listed(c, PATTERN)},
        factors=frozenset(("attn_qkv", "attn_output")),
        idle=frozenset(f"attn_{part}.bias" for part in ("q", "k", "v", "qkv")),
        windows="grown",
    ),
)
