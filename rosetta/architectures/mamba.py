"""Mamba, and Falcon-Mamba: each layer is a state of which each channel decays by time steps of its own."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.builders import output_of, single
from rosetta.architectures.parts.folder_names import MIXER_NAMES, MIXER_PARAMETERS
from rosetta.architectures.parts.recurrent import (
    mamba,
    rms_epsilon,
    state_readings,
    state_sizes,
    without_attention,
)
from rosetta.graph import Stage
from rosetta.ops.norm import Norm
from rosetta.ops.op import Settings
from rosetta.ops.recurrent import INNER, KERNEL, RANK, STATE
from rosetta.settings_reader import SettingsReader

SPELLINGS = {KERNEL: ("conv_kernel",), STATE: ("state_size",), INNER: ("expand", "hidden_size")}
DEFAULTS = {"conv_kernel": 4, "state_size": 16, "expand": 2, "hidden_size": 768}
NORMED, EPSILON = "ssm.dt_b_c_rms", "ssm.dt_b_c_epsilon"


def settings(read: SettingsReader) -> None:
    """Sizes of the state, and whether what steers it is normed."""
    without_attention(read)
    rms_epsilon(read)
    state_sizes(read, SPELLINGS, DEFAULTS)
    stated = read.spelled("intermediate_size")
    if read.container.kind == "huggingface" and stated is not None and INNER not in read.overrides:
        read.by_layer(INNER, [stated.value], stated=stated.key)  # the class multiplies where it is not there
    rank_of_time_steps(read, "time_step_rank")
    falcon = read.container.architecture in FALCON
    if not read.take(NORMED, "flag", falcon and read.container.kind == "huggingface"):
        return
    norms = read.config[read.architecture.epsilon_key].value
    read.take(EPSILON, "number", Default(apr=norms, gguf=norms, huggingface=1e-6), ("mixer_rms_eps",))


def rank_of_time_steps(read: SettingsReader, spelling: str) -> None:
    """Rank of the time steps, a sixteenth of the embedding where a folder leaves it to transformers."""
    stated = read.spelled(spelling)
    if read.container.kind == "gguf" or (stated is not None and stated.value != "auto"):
        state_sizes(read, {RANK: (spelling,)}, {})
    else:
        rank = -(-read.config["embedding_length"].value // 16)
        read.by_layer(
            RANK, [rank], "a sixteenth of the embedding", stated.key if stated is not None else None
        )


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """One block."""

    def norm(stem: str) -> Norm:
        return Norm(None, EPSILON, kind="rms")

    return single(output_of(n - 1), mamba(a.norm_of("attn_norm"), a.epsilon_key, norm if c[NORMED] else None))


FALCON = ("falcon_mamba", "FalconMambaForCausalLM")
MAMBA = Architecture(
    "mamba",
    gguf="mamba",
    classes=("MambaForCausalLM", *FALCON),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=None,
    attention=False,
    feed_forward=False,
    settings=settings,
    readings=state_readings,
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, MambaConfig
            "block_count": 32,
            "context_length": 1 << 20,  # what llama.cpp's converter writes: there is no limit
            "embedding_length": 768,
            "vocab_size": 50280,
            "tied_embeddings": True,
        },
        spellings={"attention.layer_norm_rms_epsilon": "layer_norm_epsilon"},
        flags={"use_bias": False, "use_conv_bias": True},
        idle=frozenset({"time_step_min", "time_step_max", "time_step_rank"}),  # of the first values
        names={
            **MIXER_NAMES,
            "backbone.layers.{bid}.mixer.dt_proj": "blk.{bid}.ssm_dt",
            "backbone.layers.{bid}.mixer.x_proj": "blk.{bid}.ssm_x",
        },
        parameters=MIXER_PARAMETERS,
    ),
    llamacpp=LlamaCpp(
        reads=(llamacpp_keys.STATE - {"ssm.group_count"}) | {"ssm.dt_b_c_rms"},
        keys={"attention.head_count": lambda c: 0, "feed_forward_length": lambda c: 0},
        factors=frozenset(("ssm_in", "ssm_out")),
    ),
)
