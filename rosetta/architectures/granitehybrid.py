"""Granite 4 hybrid, and Bamba: Mamba-2 layers and some of attention, each before experts or a dense network, all added
times a factor."""

from __future__ import annotations

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.granitemoe import GRANITE_MOE_SHARED
from rosetta.architectures.parts import factors, llamacpp_keys
from rosetta.architectures.parts.builders import (
    attention,
    embedding,
    experts,
    feed_forward,
    head,
    output_of,
    scores_of,
    sequential,
)
from rosetta.architectures.parts.folder_names import MAMBA_NAMES, MAMBA_PARAMETERS, gated
from rosetta.architectures.parts.huggingface import MULTIPLIERS
from rosetta.architectures.parts.readings import Reading, Stored, fused, standard_readings
from rosetta.architectures.parts.recurrent import (
    RECURRENT,
    RECURRENT_KINDS,
    layer_kinds,
    mamba2,
    recurrent_without_heads,
    state_readings,
    state_sizes,
    stated_head_size,
    time_step_limits,
)
from rosetta.graph import Stage
from rosetta.ops.experts import Router
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Scale
from rosetta.ops.recurrent import GROUPS, INNER, KERNEL, RANK, STATE
from rosetta.ops.rotary import Rotary
from rosetta.settings_reader import SettingsReader

ROTATED = "rope.scaling.finetuned"  # llama.cpp takes this key for the switch of rope
SHARED = "expert_shared_feed_forward_length"
SPELLINGS = {
    KERNEL: ("mamba_d_conv",),
    STATE: ("mamba_d_state",),
    GROUPS: ("mamba_n_groups",),
    RANK: ("mamba_n_heads",),
    INNER: ("mamba_expand", "hidden_size"),
}
DEFAULTS = {
    "mamba_d_conv": 4,
    "mamba_d_state": 256,
    "mamba_n_groups": 1,
    "mamba_n_heads": 128,
    "mamba_expand": 2,
    "hidden_size": 4096,
}
NONE = Default(apr=1.0, gguf=1.0, huggingface=1.0)


def mamba_settings(read: SettingsReader) -> None:
    """Sizes of the state, and factors."""
    state_sizes(read, SPELLINGS, DEFAULTS)
    stated_head_size(read, "mamba_d_head")
    time_step_limits(read, "time_step_limit")
    for key in ("embedding_scale", "residual_scale", "logit_scale"):
        read.take(key, "number", NONE)


def settings(read: SettingsReader) -> None:
    """Granite's: layer kinds by name, experts or one dense network under the name of the shared expert."""
    kinds: list[str] = []
    stated = None
    if read.container.kind != "gguf":
        kinds, stated = layer_kinds(read, ["mamba"] * read.config["block_count"].value)
        read.number("attention.scale", 1.0, "default of transformers")
    recurrent_without_heads(read, [kind in RECURRENT_KINDS for kind in kinds], stated)
    mamba_settings(read)
    position = read.spelled("position_embedding_type")
    if position is not None:
        read.by_layer(ROTATED, [position.value == "rope"], stated=position.key)
    else:
        read.take(ROTATED, "flag", Default(apr=False, gguf=True, huggingface=False))
    read.take("expert_count", "count", Default(apr=0, gguf=0, huggingface=8))
    read.take("expert_used_count", "count", Default(apr=0, gguf=0, huggingface=2))
    shared = read.take(
        SHARED, "count", Default(apr=0, gguf=0, huggingface=1024), ("shared_intermediate_size",)
    )
    if read.container.kind == "huggingface" and not read.config["expert_count"].value:
        read.by_layer("feed_forward_length", [shared], stated=read.config[SHARED].key)


def bamba_settings(read: SettingsReader) -> None:
    """Bamba's: attention layers by number, all rotated, no experts."""
    indices, layers = read.spelled("attn_layer_indices"), range(read.config["block_count"].value)
    attending = indices.value if indices is not None else ()
    stated = indices.key if indices is not None else None
    recurrent_without_heads(read, [n not in attending for n in layers], stated)
    mamba_settings(read)
    read.take(ROTATED, "flag", True)
    for key in ("expert_count", "expert_used_count", SHARED):
        read.take(key, "count", 0)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A state or attention, then experts or a dense network."""
    norm = a.norm_of("ffn_norm")
    network = feed_forward(norm=norm)
    if c["expert_count"]:
        network = experts(
            norm=norm, router=Router(), width="feed_forward_length", shared=SHARED if c[SHARED] else None
        )
    mixer = mamba2(c, a.norm_of("attn_norm"), a.epsilon_key)
    if not c[RECURRENT]:
        rope = Rotary(INTERLEAVED, where=ROTATED)
        mixer = attention(norm=a.norm_of("attn_norm"), rope=rope, scores=scores_of(c))
    return sequential(output_of(n - 1), mixer, network, scale="residual_scale")


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """A folder has gate and up of the shared expert in one tensor, and calls a dense network so too."""
    suffix = "_shexp" if c["expert_count"] else ""
    if stored.stem == "ffn_gate_up_shexp" and stored.dims:
        half = stored.dims[0] // 2
        return fused(stored, (f"ffn_gate{suffix}", f"ffn_up{suffix}"), (half, half))
    if stored.stem == "ffn_down_shexp" and not suffix:
        return [Reading(f"ffn_down.{stored.suffix}")]
    found = state_readings(stored, c, per_head=True) or standard_readings(stored, c)
    return None if found is None else list(found)


GRANITE_HYBRID = Architecture(
    "granitehybrid",
    gguf="granitehybrid",
    classes=("GraniteMoeHybridForCausalLM", "granitemoehybrid"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope=INTERLEAVED,
    settings=settings,
    readings=readings,
    before=lambda a, c: embedding(Scale("embedding_scale")),
    layer=layer,
    after=lambda a, layers: head(
        output_of(layers - 1), Scale("logit_scale", inverse=True), norm=a.norm_of("output_norm")
    ),
    huggingface=HuggingFace(
        model_type="granitemoehybrid",
        defaults={  # transformers, GraniteMoeHybridConfig
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "vocab_size": 32000,
            "tied_embeddings": False,
        },
        reads=MULTIPLIERS,
        spellings={
            "attention.scale": "attention_multiplier",
            "expert_count": "num_local_experts",
            SHARED: "shared_intermediate_size",
        },
        flags={"attention_bias": False, "mamba_conv_bias": True, "mamba_proj_bias": False},
        says_anyway={"normalization_function": "rmsnorm"},
        names={
            **MAMBA_NAMES,
            **GRANITE_MOE_SHARED.huggingface.names,
            "model.layers.{bid}.mamba.norm": "blk.{bid}.ssm_norm",
        },
        parameters=MAMBA_PARAMETERS,
        dims={"ssm_norm": (-1,)},
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.STATE | llamacpp_keys.FACTORS | {"expert_shared_feed_forward_length"},
        factors=factors.ATTENTION | factors.STATE,
    ),
)
BAMBA = Architecture(
    "bamba",
    gguf="granitehybrid",
    classes=("BambaForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=INTERLEAVED,
    settings=bamba_settings,
    readings=readings,
    before=GRANITE_HYBRID.before,
    layer=layer,
    after=GRANITE_HYBRID.after,
    huggingface=HuggingFace(
        defaults={  # transformers, BambaConfig
            "block_count": 32,
            "context_length": 262144,
            "embedding_length": 4096,
            "feed_forward_length": 14336,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "vocab_size": 128000,
            "tied_embeddings": False,
            "rope.partial_rotary_factor": 0.5,
        },
        flags={
            "attention_bias": False,
            "mlp_bias": False,
            "mamba_conv_bias": True,
            "mamba_proj_bias": False,
        },
        names={
            **MAMBA_NAMES,
            **gated("feed_forward"),
            "model.final_layernorm": "output_norm",
            "model.layers.{bid}.mamba.norm": "blk.{bid}.ssm_norm",
            "model.layers.{bid}.pre_ff_layernorm": "blk.{bid}.ffn_norm",
        },
        parameters=MAMBA_PARAMETERS,
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.STATE | llamacpp_keys.FACTORS | {"expert_shared_feed_forward_length"},
        factors=factors.ATTENTION | factors.STATE,
    ),
)
