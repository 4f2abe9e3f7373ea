"""Mamba-2: each layer is a state whose heads decay by their own time steps."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.builders import output_of, single
from rosetta.architectures.parts.folder_names import MIXER_NAMES, MIXER_PARAMETERS
from rosetta.architectures.parts.recurrent import (
    head_size,
    mamba2,
    rms_epsilon,
    state_readings,
    state_sizes,
    stated_limits,
    time_step_limits,
    without_attention,
)
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.recurrent import GROUPS, INNER, KERNEL, RANK, STATE
from rosetta.settings_reader import SettingsReader

SPELLINGS = {
    KERNEL: ("conv_kernel",),
    STATE: ("state_size",),
    GROUPS: ("n_groups",),
    RANK: ("num_heads",),
    INNER: ("expand", "hidden_size"),
}
DEFAULTS = {
    "conv_kernel": 4,
    "state_size": 128,
    "n_groups": 8,
    "num_heads": 128,
    "expand": 2,
    "hidden_size": 4096,
}


def settings(read: SettingsReader) -> None:
    """Sizes of the state."""
    without_attention(read)
    rms_epsilon(read)
    state_sizes(read, SPELLINGS, DEFAULTS)
    time_step_limits(read, "time_step_limit")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """One block."""
    return single(output_of(n - 1), mamba2(c, a.norm_of("attn_norm"), a.epsilon_key))


MAMBA2 = Architecture(
    "mamba2",
    gguf="mamba2",
    classes=("Mamba2ForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=None,
    attention=False,
    feed_forward=False,
    settings=settings,
    readings=lambda stored, c: state_readings(stored, c, per_head=True),
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, Mamba2Config
            "block_count": 64,
            "context_length": 1 << 20,  # what llama.cpp's converter writes: there is no limit
            "embedding_length": 4096,
            "vocab_size": 32768,
            "tied_embeddings": False,
        },
        spellings={
            "attention.head_count": "num_heads",
            "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
        },
        keys={
            "num_heads": lambda c: c[RANK].value,
            "head_dim": head_size,
            "time_step_limit": stated_limits,
        },
        flags={"use_bias": False, "use_conv_bias": True},
        idle=frozenset({"time_step_min", "time_step_max", "time_step_rank"}),  # of the first values
        names={
            **MIXER_NAMES,
            "backbone.layers.{bid}.mixer.norm": "blk.{bid}.ssm_norm",
        },
        parameters={
            **MIXER_PARAMETERS,
            "backbone.layers.{bid}.mixer.dt_bias": "blk.{bid}.ssm_dt.bias",
        },
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.STATE,
        keys={"attention.head_count": lambda c: 0, "feed_forward_length": lambda c: 0},
        factors=frozenset(("ssm_in", "ssm_out")),
    ),
)
