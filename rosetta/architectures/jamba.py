"""Jamba: Mamba layers and some of attention without positions, each before a network or a mixture of experts."""

from __future__ import annotations

from functools import partial

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.mamba import rank_of_time_steps
from rosetta.architectures.parts import factors, llamacpp_keys
from rosetta.architectures.parts.builders import attention, experts, feed_forward, output_of, sequential
from rosetta.architectures.parts.expert_settings import every_so_many, expert_layers
from rosetta.architectures.parts.folder_names import MAMBA_NAMES, gated
from rosetta.architectures.parts.readings import first_of, standard_readings
from rosetta.architectures.parts.recurrent import (
    RECURRENT,
    mamba,
    recurrent_without_heads,
    state_readings,
    state_sizes,
)
from rosetta.graph import Stage
from rosetta.ops.attention import Scores
from rosetta.ops.experts import Router
from rosetta.ops.norm import Norm
from rosetta.ops.op import Op, Settings
from rosetta.ops.recurrent import INNER, KERNEL, RANK, STATE
from rosetta.setting_values import listed
from rosetta.settings_reader import SettingsReader

SPELLINGS = {KERNEL: ("mamba_d_conv",), STATE: ("mamba_d_state",), INNER: ("mamba_expand", "hidden_size")}
DEFAULTS = {"mamba_d_conv": 4, "mamba_d_state": 16, "mamba_expand": 2, "hidden_size": 4096}


def settings(read: SettingsReader) -> None:
    """Which layers attend and which have experts: a folder counts them out, a GGUF file shows it by its tensors."""
    layers, folder = range(read.config["block_count"].value), read.container.kind != "gguf"
    period, offset = (_number(read, f"attn_layer_{key}", default) for key, default in _PERIODS)
    recurrent = [n % period != offset for n in layers]
    recurrent_without_heads(read, recurrent, "attn_layer_period" if folder else None)
    state_sizes(read, SPELLINGS, DEFAULTS)
    rank_of_time_steps(read, "mamba_dt_rank")
    count = read.take("expert_count", "count", Default(apr=16, gguf=0, huggingface=16))
    read.take("expert_used_count", "count", Default(apr=2, gguf=0, huggingface=2))
    period, offset = _number(read, "expert_layer_period", 2), _number(read, "expert_layer_offset", 1)
    sparse = [count > 1 and n % period == offset for n in layers]
    if not folder:
        sparse = [f"blk.{n}.ffn_gate_inp.weight" in read.container.tensors for n in layers]
    expert_layers(read, sparse)


_PERIODS = (("period", 8), ("offset", 4))


def _number(read: SettingsReader, key: str, default: int) -> int:
    found = read.spelled(key)
    least = 1 if key.endswith("period") else 0
    return found.value if found is not None and type(found.value) is int and found.value >= least else default


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A state or attention, then a network or experts."""

    def inner_norm(stem: str) -> Op:
        width = {"ssm_dt_norm": RANK}.get(stem, STATE)
        return Norm(stem, a.epsilon_key, width=(width,), kind="rms", bias=False)

    norm = partial(a.norm_of, "attn_norm")
    mixer = (
        mamba(norm(), a.epsilon_key, inner_norm)
        if c[RECURRENT]
        else attention(norm=norm(), rope=None, scores=Scores(window=None))
    )
    network = feed_forward(norm=a.norm_of("ffn_norm"))
    if c["expert_layers"]:
        router = Router(normalised=False)
        network = experts(norm=a.norm_of("ffn_norm"), router=router, width="feed_forward_length")
    return sequential(output_of(n - 1), mixer, network)


JAMBA = Architecture(
    "jamba",
    gguf="jamba",
    classes=("JambaForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope=None,
    settings=settings,
    readings=first_of(state_readings, standard_readings),
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, JambaConfig
            "block_count": 32,
            "context_length": 262144,
            "embedding_length": 4096,
            "feed_forward_length": 14336,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "vocab_size": 65536,
            "tied_embeddings": False,
        },
        keys={
            "attn_layer_period": lambda c: every_so_many([not on for on in listed(c, RECURRENT)])[0],
            "attn_layer_offset": lambda c: every_so_many([not on for on in listed(c, RECURRENT)])[1],
            "expert_layer_period": lambda c: every_so_many(listed(c, "expert_layers"))[0],
            "expert_layer_offset": lambda c: every_so_many(listed(c, "expert_layers"))[1],
            "num_experts": lambda c: c["expert_count"].value or 1,  # one: a network
            "num_experts_per_tok": lambda c: c["expert_used_count"].value or 1,
            "num_key_value_heads": lambda c: max(listed(c, "attention.head_count_kv")),
        },
        flags={"mamba_conv_bias": True, "mamba_proj_bias": False},
        says_anyway={"mamba_inner_layernorms": True},
        names={
            **MAMBA_NAMES,
            **gated("feed_forward"),
            "model.final_layernorm": "output_norm",
            "model.layers.{bid}.mamba.b_layernorm": "blk.{bid}.ssm_b_norm",
            "model.layers.{bid}.mamba.c_layernorm": "blk.{bid}.ssm_c_norm",
            "model.layers.{bid}.mamba.dt_layernorm": "blk.{bid}.ssm_dt_norm",
            "model.layers.{bid}.mamba.dt_proj": "blk.{bid}.ssm_dt",
            "model.layers.{bid}.mamba.x_proj": "blk.{bid}.ssm_x",
            "model.layers.{bid}.pre_ff_layernorm": "blk.{bid}.ffn_norm",
            "model.layers.{bid}.feed_forward.experts.{eid}.down_proj": "blk.{bid}.ffn_down_exps.{eid}",
            "model.layers.{bid}.feed_forward.experts.{eid}.gate_proj": "blk.{bid}.ffn_gate_exps.{eid}",
            "model.layers.{bid}.feed_forward.experts.{eid}.up_proj": "blk.{bid}.ffn_up_exps.{eid}",
            "model.layers.{bid}.feed_forward.router": "blk.{bid}.ffn_gate_inp",
        },
        parameters={
            "model.layers.{bid}.mamba.A_log": "blk.{bid}.ssm_a",
            "model.layers.{bid}.mamba.D": "blk.{bid}.ssm_d",
        },
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.STATE - {"ssm.group_count"},
        factors=factors.ATTENTION | factors.STATE,
    ),
)
