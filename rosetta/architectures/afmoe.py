"""Trinity (AFMoE): a window in three of four layers, the fourth without rotary; gated attention, norms before and after
each block, sigmoid experts beside a shared one."""

from __future__ import annotations

import math

from rosetta.architectures import SPLIT_HALF, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.builders import base_of, base_of_windows, embedding
from rosetta.architectures.parts.expert_settings import (
    expert_settings,
    leading_dense,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Gate, Scale
from rosetta.ops.rotary import Rotary
from rosetta.setting_values import PerLayer
from rosetta.settings_reader import SettingsReader

ROPE_STEP = 4  # of so many layers llama.cpp turns all but the last, whatever has a window


def settings(read: SettingsReader) -> None:
    """Sigmoid experts, the factor of the embedding, and which layers are turned."""
    expert_settings(
        read,
        count=of_folder(64, None),
        used=of_folder(6, None),
        width=of_folder(1408, None),
        gating=2,
        normalised=of_folder(True, False),
        scale=1.0,
    )
    shared_expert(read, of_folder(2, None), "num_shared_experts")
    leading_dense(read, of_folder(1), "num_dense_layers")
    scaled = read.container.kind == "gguf"
    if not scaled:
        stated = read.spelled("mup_enabled")
        scaled = bool(stated and stated.value)
    length = read.config["embedding_length"].value
    read.take(
        "embedding_scale",
        "number",
        math.sqrt(length) if scaled else 1.0,
        note="√(embedding length)" if scaled else "mup_enabled is not set",
    )
    layers = read.config["block_count"].value
    turned = [(n + 1) % ROPE_STEP != 0 for n in range(layers)]
    if read.container.kind != "gguf":
        pattern = read.config["attention.sliding_window_pattern"].value
        turned = list(pattern) if isinstance(pattern, PerLayer) else [pattern] * layers
    read.by_layer("rope.layers", turned, "the layers that are turned")
    base_of_windows(read)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Gated attention, then experts or a dense network, each normed before and after."""
    mixer = {
        "rope": Rotary(SPLIT_HALF, base=base_of(c), where="rope.layers"),
        "gate": Gate(),
        "post_norm": a.norm_of("post_attention_norm"),
    }
    return mixture_layer(a, c, n, mixer=mixer, post_norm=a.norm_of("post_ffw_norm"))


AFMOE = Architecture(
    "afmoe",
    gguf="afmoe",
    classes=("AfmoeForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    qk_norm=True,
    full_attention_every=4,
    settings=settings,
    before=lambda a, c: embedding(Scale("embedding_scale")),
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, AfmoeConfig
            "block_count": 32,
            "context_length": 16384,
            "embedding_length": 2048,
            "feed_forward_length": 6144,
            "attention.head_count": 16,
            "attention.key_length": 128,
            "attention.sliding_window": 1024,
            "vocab_size": 200192,
            "tied_embeddings": False,
        },
        spellings={"expert_weights_scale": "route_scale"},
        flags={"attention_bias": False},
        names={
            **gated("mlp.shared_experts", "_shexp"),
            "model.layers.{bid}.post_attention_layernorm": "blk.{bid}.post_attention_norm",
            "model.layers.{bid}.post_mlp_layernorm": "blk.{bid}.post_ffw_norm",
            "model.layers.{bid}.pre_mlp_layernorm": "blk.{bid}.ffn_norm",
            "model.layers.{bid}.self_attn.gate_proj": "blk.{bid}.attn_gate",
            "model.layers.{bid}.mlp.router.gate": "blk.{bid}.ffn_gate_inp",
        },
        parameters={
            "model.layers.{bid}.mlp.expert_bias": "blk.{bid}.exp_probs_b",
        },
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.EXPERTS | {"rope.freq_base_swa"},
        windows="stretched",
    ),
)
