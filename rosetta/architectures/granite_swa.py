"""Granite with windows: granite with a window in most layers, and a sink in each head of all of them."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import INTERLEAVED, Architecture, Default
from rosetta.architectures.granite import GRANITE
from rosetta.architectures.granite import settings as factors
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.builders import scores_of
from rosetta.architectures.parts.expert_settings import bases_by_layer, rotated_layers
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import Rotary
from rosetta.setting_values import listed
from rosetta.settings_reader import SettingsReader

PATTERN = "attention.sliding_window_pattern"
STEP = 4  # of so many layers the first sees all, where the file does not say


def settings(read: SettingsReader) -> None:
    """The factors, which layers have a window, which are rotated, and with what base."""
    factors(read)
    layers = range(read.config["block_count"].value)
    if read.raw(PATTERN) is None and read.config["attention.sliding_window"].value:
        read.by_layer(PATTERN, [n % STEP != 0 for n in layers], "the layers that slide")
    rotated_layers(read, [True] * len(layers), read.raw("attention.rope_pattern"))


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention with sinks, then a gated network, what they add scaled; of experts, in a GGUF that has some."""
    rope, scores = Rotary(INTERLEAVED, where="rope.layers"), scores_of(c, sinks="attn_sinks")
    return mixture_layer(a, c, n, scale="residual_scale", mixer={"rope": rope, "scores": scores})


GRANITE_SWA = replace(
    GRANITE,
    name="granite_swa",
    gguf="granite_swa",
    classes=("GraniteSWAForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    full_attention_every=STEP,
    settings=settings,
    layer=layer,
    huggingface=replace(
        GRANITE.huggingface,
        defaults={  # transformers, GraniteSWAConfig
            "block_count": 24,
            "context_length": 8192,
            "embedding_length": 2560,
            "feed_forward_length": 8192,
            "attention.head_count": 20,
            "attention.head_count_kv": 4,
            "attention.sliding_window": 128,
            "vocab_size": 100352,
            "tied_embeddings": True,
        },
        keys={"layer_rope_theta": bases_by_layer},
        only_with={"num_local_experts": (0,)},
        names={"model.layers.{bid}.self_attn.sinks": "blk.{bid}.attn_sinks.weight"},
    ),
    llamacpp=replace(
        GRANITE.llamacpp,
        reads=llamacpp_keys.FACTORS | {"attention.rope_pattern", "expert_shared_feed_forward_length"},
        keys={**GRANITE.llamacpp.keys, PATTERN: lambda c: listed(c, PATTERN)},
    ),
)
