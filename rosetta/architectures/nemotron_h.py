"""Nemotron-H: each layer is one block: a Mamba-2 state, attention without positions, a network, or experts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors, llamacpp_keys
from rosetta.architectures.parts.builders import (
    HIDDEN,
    Block,
    attention,
    experts,
    feed_forward,
    output_of,
    shared_expert,
    single,
)
from rosetta.architectures.parts.expert_settings import expert_groups, expert_layers, expert_settings
from rosetta.architectures.parts.folder_names import MIXER_NAMES, MIXER_PARAMETERS
from rosetta.architectures.parts.mixtures import router_of
from rosetta.architectures.parts.readings import Reading, Stored, standard_readings
from rosetta.architectures.parts.recurrent import (
    RECURRENT,
    head_size,
    layer_kinds,
    mamba2,
    rms_epsilon,
    state_readings,
    state_sizes,
    time_step_limits,
)
from rosetta.graph import Stage
from rosetta.ops.attention import Scores
from rosetta.ops.experts import SIGMOID, ExpertLinear, ExpertSum
from rosetta.ops.linear import Linear
from rosetta.ops.op import Op, Settings
from rosetta.ops.pointwise import Activation, Add
from rosetta.ops.recurrent import GROUPS, INNER, KERNEL, RANK, SMALLEST, STATE
from rosetta.row_order import SPLIT_HALF, RowOrder
from rosetta.setting_values import Config, listed
from rosetta.settings_reader import SettingsReader

FFN, KV_HEADS, WIDTH = "feed_forward_length", "attention.head_count_kv", "expert_feed_forward_length"
LATENT, SHARED = "moe_latent_size", "expert_shared_feed_forward_length"
LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
SPELLINGS = {
    KERNEL: ("conv_kernel",),
    STATE: ("ssm_state_size",),
    GROUPS: ("n_groups",),
    RANK: ("mamba_num_heads",),
    INNER: ("mamba_head_dim", "mamba_num_heads"),
}
DEFAULTS = {
    "conv_kernel": 4,
    "ssm_state_size": 128,
    "n_groups": 8,
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
}
LEAST_STEP = 0.001  # NemotronHConfig, which clamps by it: so small a step is none that a trained layer has


def settings(read: SettingsReader) -> None:
    """What each layer is."""
    if read.container.kind != "gguf":
        _kinds(read)
    rms_epsilon(read)
    for key in ("rope.dimension_count", "rope.scaling.finetuned"):  # which the converter states all the same
        read.raw(key)
    if read.container.kind == "gguf":
        of_gguf(read)
    state_sizes(read, SPELLINGS, DEFAULTS)
    _time_steps(read)


def _time_steps(read: SettingsReader) -> None:
    """Between what time steps are held: transformers' class asks for the least alone, whatever limits are stated."""
    spellings = ("time_step_limit", "mamba_dt_limit")
    time_step_limits(read, *(() if read.container.kind == "huggingface" else spellings))
    least = read.spelled("time_step_min", "mamba_dt_min")
    if least is not None and least.value != LEAST_STEP:
        read.by_layer(SMALLEST, [least.value], stated=least.key)
    limits = read.spelled(*spellings) if read.container.kind == "huggingface" else None
    stated = limits.value if limits is not None and isinstance(limits.value, list) else []
    if limits is not None and any(type(x) in (int, float) and math.isfinite(x) and x for x in stated):
        read.deny(limits)


def _kinds(read: SettingsReader) -> None:
    """A folder's list of layers, or its pattern of letters."""
    pattern, named = read.spelled("hybrid_override_pattern"), read.spelled("layers_block_type", "layer_types")
    if pattern is not None and isinstance(pattern.value, str):
        kinds = [LETTERS.get(letter, letter) for letter in pattern.value]
        stated: str | None = pattern.key
    elif named is not None and isinstance(named.value, list):
        kinds, stated = [str(kind) for kind in named.value], named.key
    else:
        kinds, stated = layer_kinds(read, ["mamba", "moe", "attention", "mlp"])
    read.by_layer("block_count", [len(kinds)], stated=stated)
    read.by_layer(RECURRENT, [kind in ("mamba", "linear_attention") for kind in kinds], stated=stated)
    expert_layers(read, [kind == "moe" for kind in kinds], stated)
    kinds = _as_repaired(read, ["attention" if kind == "full_attention" else kind for kind in kinds])
    width, sparse = read.config[FFN], read.spelled("moe_intermediate_size")
    widths = {"mlp": width.value, "moe": 7688 if sparse is None else sparse.value}
    read.by_layer(FFN, [widths.get(kind, 0) for kind in kinds], stated=width.key or stated)
    heads = read.config[KV_HEADS]
    read.by_layer(KV_HEADS, [heads.value * (kind == "attention") for kind in kinds], stated=heads.key)


def _as_repaired(read: SettingsReader, kinds: Sequence[str]) -> list[str]:
    """The kinds of layers by what a repair says of the recurrent ones and of those with experts: what is none of them
    any more attends where the folder has queries for it, and is a dense network elsewhere."""
    config, tensors, found = read.config, read.container.tensors, []
    recurrent, sparse = listed(config, RECURRENT), listed(config, "expert_layers")
    for n, kind in enumerate(kinds[: len(recurrent)]):
        queries = (f"layers.{n}.mixer.q_proj.weight", f"blk.{n}.attn_q.weight")
        attends = any(name.endswith(queries) for name in tensors)
        other = "attention" if attends else "mlp"
        plain = kind if kind in ("attention", "mlp") else other
        found.append("mamba" if recurrent[n] else "moe" if sparse[n] else plain)
    return found


def kinds_of(config: Config) -> list[str]:
    """What config.json calls each layer; of lists that a repair changes one by one, as far as the shortest goes."""
    recurrent, sparse, widths = (listed(config, key) for key in (RECURRENT, "expert_layers", FFN))
    kinds = zip(recurrent, sparse, widths, strict=False)
    return [
        "mamba" if state else "moe" if experts else "mlp" if width else "attention"
        for state, experts, width in kinds
    ]


def width_of(config: Config, kind: str) -> int | None:
    """The width of the networks of one kind; None where there is no layer of it."""
    layers = zip(kinds_of(config), listed(config, FFN), strict=False)
    return next((width for layer, width in layers if layer == kind), None)


def of_gguf(read: SettingsReader) -> None:
    """A GGUF file's layers: recurrent is what has neither heads of keys nor a network."""
    read.raw(RECURRENT)
    layers, recurrent = range(read.config["block_count"].value), []
    networks = [_of(read.config[FFN].value, n) for n in layers]
    recurrent = [not networks[n] and not _of(read.config[KV_HEADS].value, n) for n in layers]
    read.by_layer(RECURRENT, recurrent, stated=read.config[KV_HEADS].key)
    sparse = read.architecture.gguf == "nemotron_h_moe"
    expert_layers(read, [sparse and bool(width) for width in networks])


def _of(value: Any, layer: int) -> Any:
    return value[layer] if isinstance(value, tuple) else value


def mixture_settings(read: SettingsReader) -> None:
    """Experts, and the size of what they read where that is a projection."""
    settings(read)
    expert_settings(
        read,
        count=Default(apr=None, gguf=None, huggingface=8),
        used=Default(apr=None, gguf=None, huggingface=2),
        width=Default(apr=None, gguf=None, huggingface=7688),
        gating=SIGMOID,
        normalised=Default(apr=True, gguf=False, huggingface=True),
        scale=1.0,
    )
    expert_groups(read, 1, 1)
    read.raw("expert_shared_count")
    read.take(
        SHARED,
        "count",
        Default(apr=None, gguf=None, huggingface=7688),
        ("moe_shared_expert_intermediate_size",),
    )
    read.take(LATENT, "count", 0, ("moe_latent_size",))


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """One block."""
    norm = a.norm_of("attn_norm")
    if c[RECURRENT]:
        block = mamba2(c, norm, a.epsilon_key, activation=None)
    elif c["expert_layers"]:
        block = _normed(norm, _mixture(c))
    elif c[FFN]:
        block = _normed(norm, feed_forward(norm=None, gated=False))
    else:
        block = attention(norm=norm, rope=None, scores=Scores(window=None))
    return single(output_of(n - 1), block)


def _normed(norm: Op, block: Block) -> Block:
    """The block behind the one norm that a layer of any kind has."""
    return lambda x: [Stage("attn_norm", norm, (x,)), *block("attn_norm")]


def _mixture(c: Settings) -> Block:
    router = router_of(c)
    if not c[LATENT]:
        return experts(norm=None, router=router, gated=False, shared=SHARED)

    def block(x: str) -> list[Stage]:
        up = ExpertLinear("ffn_up_exps", router, rows=WIDTH, columns=LATENT)
        down = ExpertSum("ffn_down_exps", router, rows=LATENT, columns=WIDTH)
        return [
            Stage("ffn_router", router, (x,)),
            Stage("ffn_latent_down", Linear("ffn_latent_down", rows=LATENT, columns=HIDDEN), (x,)),
            Stage("ffn_up", up, ("ffn_latent_down", "ffn_router")),
            Stage("ffn_act", Activation(), ("ffn_up",)),
            Stage("ffn_experts", down, ("ffn_act", "ffn_router")),
            Stage("ffn_latent_up", Linear("ffn_latent_up", rows=HIDDEN, columns=LATENT), ("ffn_experts",)),
            *shared_expert(x, SHARED, False, None, False),
            Stage("ffn_out", Add(), ("ffn_latent_up", "ffn_shared")),
        ]

    return block


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """Those of Mamba-2; the converter turns the rows of q and k, though nothing rotates them."""
    if stored.foreign and stored.stem in ("attn_q", "attn_k"):
        key = c["attention.key_length"]
        return [Reading(f"{stored.stem}.{stored.suffix}", order=RowOrder(key, key, SPLIT_HALF))]
    found = state_readings(stored, c, per_head=True) or standard_readings(stored, c)
    return None if found is None else list(found)


def _with_experts(metadata: Mapping[str, Any]) -> Architecture | None:
    """The mixture, where a folder's list of layers has one, as the class's own list has: both go by one name there.
    Of a GGUF llama.cpp asks the count of experts alone, whatever the name."""
    if metadata.get("nemotron_h.expert_count"):
        return NEMOTRON_H_MOE
    pattern = metadata.get("hybrid_override_pattern")
    named = metadata.get("layers_block_type") or metadata.get("layer_types")
    kinds = pattern if isinstance(pattern, str) else named if isinstance(named, list) else ()
    unsaid = not kinds and "model_type" in metadata
    return NEMOTRON_H_MOE if unsaid or "E" in kinds or "moe" in kinds else None


def _without_experts(metadata: Mapping[str, Any]) -> Architecture | None:
    """The plain one, where a GGUF counts no experts; see `_with_experts`."""
    gguf = "general.architecture" in metadata
    return NEMOTRON_H if gguf and not metadata.get("nemotron_h_moe.expert_count") else None


NAMES = {
    **MIXER_NAMES,
    "backbone.layers.{bid}.mixer.norm": "blk.{bid}.ssm_norm",
    "backbone.layers.{bid}.mixer.k_proj": "blk.{bid}.attn_k",
    "backbone.layers.{bid}.mixer.o_proj": "blk.{bid}.attn_output",
    "backbone.layers.{bid}.mixer.q_proj": "blk.{bid}.attn_q",
    "backbone.layers.{bid}.mixer.v_proj": "blk.{bid}.attn_v",
}
FACTORS = factors.ATTENTION | factors.NETWORK | factors.EXPERTS | factors.SHARED | factors.STATE

NEMOTRON_H = Architecture(
    "nemotron_h",
    gguf="nemotron_h",
    classes=("NemotronHForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="relu_squared",
    gated=False,
    rope=None,
    settings=settings,
    readings=readings,
    variant=_with_experts,
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, NemotronHConfig
            "block_count": 4,
            "context_length": 4096,
            "embedding_length": 4096,
            "feed_forward_length": 21504,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "vocab_size": 131072,
            "tied_embeddings": False,
        },
        spellings={
            "activation": "mlp_hidden_act",
            "expert_count": "n_routed_experts",
            "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
            SHARED: "moe_shared_expert_intermediate_size",
        },
        keys={
            "layers_block_type": kinds_of,
            "time_step_min": lambda c: c[SMALLEST].value or LEAST_STEP,  # the class takes no null
            "mamba_head_dim": head_size,
            "num_key_value_heads": lambda c: max(listed(c, KV_HEADS)),
            # An `.apr` must state some.
            "intermediate_size": lambda c: width_of(c, "mlp") or width_of(c, "moe"),
            "moe_intermediate_size": lambda c: width_of(c, "moe"),
        },
        flags={"mlp_bias": False, "use_bias": False, "use_conv_bias": True},
        only_with={"mamba_hidden_act": ("silu", "swish")},
        idle=frozenset(
            {
                *("chunk_size", "expand", "mamba_ssm_cache_dtype", "num_logits_to_keep", "time_step_max"),
                *("moe_shared_expert_overlap", "mtp_layers_block_type", "n_shared_experts"),
                # of its experts, where no layer has any
                *(
                    "moe_intermediate_size",
                    "moe_shared_expert_intermediate_size",
                    "moe_latent_size",
                    "n_routed_experts",
                ),
                *("n_group", "topk_group", "norm_topk_prob", "num_experts_per_tok", "routed_scaling_factor"),
            }
        ),
        names={
            **NAMES,
            "backbone.layers.{bid}.mixer.down_proj": "blk.{bid}.ffn_down",
            "backbone.layers.{bid}.mixer.up_proj": "blk.{bid}.ffn_up",
            "backbone.layers.{bid}.mixer.gate.e_score_correction_bias": "blk.{bid}.exp_probs_b.bias",
        },
        parameters={
            **MIXER_PARAMETERS,
            "backbone.layers.{bid}.mixer.dt_bias": "blk.{bid}.ssm_dt.bias",
        },
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.STATE
        | {
            "expert_feed_forward_length",
            "expert_shared_count",
            "expert_shared_feed_forward_length",
            "expert_weights_norm",
            "expert_weights_scale",
            "moe_latent_size",
        },
        keys={
            "attention.layer_norm_epsilon": lambda c: c["attention.layer_norm_rms_epsilon"].value,
            "rope.dimension_count": lambda c: c[HIDDEN].value // max(listed(c, "attention.head_count")),
            "rope.scaling.finetuned": lambda c: False,
        },
        factors=FACTORS,
    ),
)
NEMOTRON_H_MOE = replace(
    NEMOTRON_H,
    name="nemotron_h_moe",
    gguf="nemotron_h_moe",
    classes=(),
    settings=mixture_settings,
    variant=_without_experts,
    huggingface=replace(
        NEMOTRON_H.huggingface,
        model_type="nemotron_h",
        names={
            **NAMES,
            "backbone.layers.{bid}.mixer.experts.{eid}.down_proj": "blk.{bid}.ffn_down_exps.{eid}",
            "backbone.layers.{bid}.mixer.experts.{eid}.up_proj": "blk.{bid}.ffn_up_exps.{eid}",
            "backbone.layers.{bid}.mixer.gate": "blk.{bid}.ffn_gate_inp",
            "backbone.layers.{bid}.mixer.shared_experts.down_proj": "blk.{bid}.ffn_down_shexp",
            "backbone.layers.{bid}.mixer.shared_experts.up_proj": "blk.{bid}.ffn_up_shexp",
            "backbone.layers.{bid}.mixer.fc1_latent_proj": "blk.{bid}.ffn_latent_down",
            "backbone.layers.{bid}.mixer.fc2_latent_proj": "blk.{bid}.ffn_latent_up",
        },
        parameters={
            **NEMOTRON_H.huggingface.parameters,
            "backbone.layers.{bid}.mixer.experts.up_proj": "blk.{bid}.ffn_up_exps",
            "backbone.layers.{bid}.mixer.experts.down_proj": "blk.{bid}.ffn_down_exps",
            "backbone.layers.{bid}.mixer.gate.e_score_correction_bias": "blk.{bid}.exp_probs_b.bias",
        },
        taken_apart=frozenset({"ffn_up_exps", "ffn_down_exps"}),
    ),
    llamacpp=replace(
        NEMOTRON_H.llamacpp,
        # The class has one, as wide as it says, which may be as wide as several of the others.
        keys={**NEMOTRON_H.llamacpp.keys, "expert_shared_count": lambda c: 1},
    ),
)
