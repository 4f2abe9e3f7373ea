"""The text part of Step 3.5 and 3.7: heads and rotation by kind of layer, a gate for each head, clamped experts beside
a shared one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rosetta.architectures import SPLIT_HALF, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import HEADS
from rosetta.architectures.parts.expert_settings import (
    expert_layers,
    expert_settings,
    layers_with_router,
    leading_dense,
    of_folder,
)
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.mixtures import SHARED, mixture_layer
from rosetta.architectures.parts.readings import first_of, one_more_where, standard_readings
from rosetta.architectures.parts.stated_kinds import PATTERN, network_kinds, window_kinds
from rosetta.containers.container import Setting
from rosetta.graph import Stage
from rosetta.ops.clamped_gate import ClampedActivation
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Gate
from rosetta.ops.rotary import Rotary
from rosetta.rope_scaling import scaling_from_gguf
from rosetta.setting_values import Config, PerLayer, listed
from rosetta.settings_reader import SettingsReader

DIMENSIONS = "rope.dimension_count"
CLAMP, SHARED_CLAMP = "swiglu_clamp_exp", "swiglu_clamp_shexp"
OF_LAYERS = "partial_rotary_factors"
NORMS = ("attn_norm", "attn_q_norm", "attn_k_norm", "ffn_norm", "output_norm")


def settings(read: SettingsReader) -> None:
    """The experts and what holds them, heads and rotation by kind of layer."""
    expert_settings(
        read,
        count=of_folder(288, None),
        used=of_folder(8, None),
        width=of_folder(1280, None),
        gating=2,
        normalised=of_folder(True, False),
        scale=of_folder(1.0, 1.0),
    )
    read.take(SHARED, "count", of_folder(1280, None), ("share_expert_dim", "share_expert_dims"))
    for key, spelling in ((CLAMP, "swiglu_limits"), (SHARED_CLAMP, "swiglu_limits_shared")):
        _clamps(read, key, spelling)
    _layers(read)
    _rotation(read)


def _clamps(read: SettingsReader, key: str, spelling: str) -> None:
    """A limit for each layer, 0 where there is none."""
    stated, layers = read.raw(key) or read.spelled(spelling), read.config["block_count"].value
    if stated is None or not isinstance(stated.value, list | tuple):
        read.take(key, "number", 0.0)
        return
    read.by_layer(key, [float(limit or 0.0) for limit in stated.value[:layers]], stated=stated.key)


def _layers(read: SettingsReader) -> None:
    """Which layers have a window, which have experts, and how many heads each has."""
    layers = read.config["block_count"].value
    if read.container.kind == "gguf":
        layers_with_router(read)
        return
    listed = read.spelled("moe_layers_enum")
    if read.spelled("mlp_layer_types") is None and listed is not None:
        numbers = listed.value.split(",") if isinstance(listed.value, str) else listed.value
        sparse = {int(number) for number in numbers if str(number).strip()}
        expert_layers(read, [n in sparse for n in range(layers)], listed.key)
    else:
        leading_dense(read, of_folder(3))
    other = read.spelled("num_sliding_attention_heads", "attention_other_setting.num_attention_heads")
    heads, slides = read.config["attention.head_count"].value, read.config[PATTERN].value
    each = read.spelled("per_layer_config")  # written beside it, and goes before it when it is read again
    if each is not None and isinstance(each.value, Mapping) and not isinstance(heads, PerLayer):
        own = [each.value.get(str(n), {}).get("num_attention_heads", heads) for n in range(layers)]
        read.by_layer("attention.head_count", own, stated=each.key)
    elif other is not None and isinstance(slides, PerLayer) and not isinstance(heads, PerLayer):
        by_kind = [other.value if slid else heads for slid in slides]
        read.by_layer("attention.head_count", by_kind, stated=other.key)


def _rotation(read: SettingsReader) -> None:
    """Layers with a window are rotated whole and with a base of their own, the others by half
    (llama.cpp, models/step35.cpp; a folder says it of each kind)."""
    size = read.config["attention.key_length"].value
    read.take("rope.freq_base_swa", "number", of_folder(10000.0, read.config["rope.freq_base"].value))
    by_kind = _shares(read)
    share = by_kind.get(True)
    read.take("rope.dimension_count_swa", "count", size if share is None else int(size * share.value))
    share = by_kind.get(False)
    if share is not None and share.key.endswith(OF_LAYERS):
        read.by_layer(DIMENSIONS, [int(size * share.value)], stated=share.key)
    if read.container.kind == "gguf":
        whole = read.config[DIMENSIONS].value
        read.fixed(DIMENSIONS, whole // 2, f"llama.cpp takes half of {whole}")
        found = read.config["rope.scaling"]
        if found.value is not None and "rope.scaling" not in read.overrides:
            # Of as many pairs as that leaves.
            theta, context = (read.config[key].value for key in ("rope.freq_base", "context_length"))
            pairs = read.config[DIMENSIONS].value // 2
            scaling = scaling_from_gguf(read.stated("rope.scal"), pairs, theta, context)
            read.config["rope.scaling"] = replace(found, value=scaling)


def _shares(read: SettingsReader) -> dict[bool, Setting]:
    """How much of a head is rotated, of layers with a window and of those without, where a folder says so: in a table
    of each kind, or layer by layer as published."""
    found = {}
    stated = read.spelled(OF_LAYERS)
    if stated is not None and isinstance(stated.value, list):
        for slides, share in zip(listed(read.config, PATTERN), stated.value, strict=False):
            if isinstance(share, int | float):
                found[bool(slides)] = Setting(share, stated.key)
    table = read.spelled("rope_parameters.sliding_attention.partial_rotary_factor")
    return found if table is None else {**found, True: table}


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Gated attention, then experts or a dense network."""
    swa = Rotary(SPLIT_HALF, "rope.dimension_count_swa", "rope.freq_base_swa", scaling=None)
    mixer = {"rope": swa if c.get(PATTERN) else Rotary(SPLIT_HALF), "gate": Gate(), "gate_rows": HEADS}
    shared = ClampedActivation(limit=SHARED_CLAMP)  # which is that of a dense network, too
    if not c.get("expert_layers", True):
        return mixture_layer(a, c, n, mixer=mixer, act=shared)
    return mixture_layer(a, c, n, mixer=mixer, act=ClampedActivation(limit=CLAMP), shared_act=shared)


def heads_where(c: Config, slides: bool) -> int | None:
    """Heads of the layers with a window, or of those without; None where there are none such."""
    both = zip(listed(c, HEADS), listed(c, PATTERN), strict=True)
    return next((heads for heads, slid in both if slid == slides), None)


def limits(c: Config, key: str) -> list[float | None]:
    """A limit for each layer as config.json lists them."""
    return [limit or None for limit in listed(c, key)]


STEP35 = Architecture(
    "step35",
    gguf="step35",
    classes=("Step3p7ForConditionalGeneration", "Step3p5ForCausalLM", "step3p5", "step3p7"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    qk_norm=True,
    full_attention_every=4,
    settings=settings,
    readings=first_of(one_more_where(*NORMS), standard_readings),
    layer=layer,
    huggingface=HuggingFace(
        reads=frozenset({"partial_rotary_factor", "query_pre_attn_scalar"}),
        model_type="step3p7",
        defaults={  # transformers, Step3p7TextConfig
            "block_count": 45,
            "context_length": 128000,
            "embedding_length": 4096,
            "feed_forward_length": 11264,
            "attention.head_count": 64,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "attention.sliding_window": 0,
            "vocab_size": 128815,
            "tied_embeddings": False,
        },
        spellings={
            "expert_count": "n_routed_experts",
            "expert_weights_scale": "moe_router_scaling_factor",
            SHARED: "share_expert_dim",
        },
        keys={
            "num_attention_heads": lambda c: heads_where(c, False) or heads_where(c, True),
            "num_sliding_attention_heads": lambda c: heads_where(c, True),
            "layer_types": window_kinds,
            "mlp_layer_types": network_kinds,
            "pad_token_id": lambda c: 0,  # which must be a number
            "swiglu_limits": lambda c: limits(c, CLAMP),
            "swiglu_limits_shared": lambda c: limits(c, SHARED_CLAMP),
        },
        flags={"attention_bias": False, "mlp_bias": False},
        says_anyway={
            **dict.fromkeys(("use_moe", "use_moe_router_bias", "norm_expert_weight", "zero_centered"), True),
            "att_impl_type": "GQA",
            "moe_router_activation": "sigmoid",
        },
        rotation_by_kind=True,
        senses={"vision_config": {"num_hidden_layers": 0}},
        names={
            "model.layers.{bid}.self_attn.g_proj": "blk.{bid}.attn_gate",
            "model.layers.{bid}.moe.gate": "blk.{bid}.ffn_gate_inp",
            "model.layers.{bid}.moe.router_bias": "blk.{bid}.exp_probs_b.bias",
            **gated("moe", "_exps"),
            **gated("share_expert", "_shexp"),
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset(
            {
                "expert_feed_forward_length",
                "expert_gating_func",
                "expert_shared_feed_forward_length",
                "expert_weights_norm",
                "expert_weights_scale",
                "rope.freq_base_swa",
                "swiglu_clamp_exp",
                "swiglu_clamp_shexp",
            }
        ),
        windows="grown",
    ),
)
