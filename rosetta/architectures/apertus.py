"""Apertus: llama with normed heads and, in place of a gated network, one whose activation is learned."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from rosetta import blocks
from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.architectures.parts.builders import attention, feed_forward, output_of, sequential
from rosetta.containers.container import Container
from rosetta.errors import DamagedFileError
from rosetta.graph import Stage
from rosetta.lazily import torch
from rosetta.ops.op import Settings
from rosetta.ops.rotary import SPLIT_HALF, Rotary
from rosetta.ops.xielu import KEYS, Xielu
from rosetta.settings_reader import SettingsReader

FOLDER = "model.layers.{layer}.mlp.act_fn.{number}"
DEFAULTS = {"xielu.beta": 0.5, "xielu.eps": -1e-6}  # transformers, XIELUActivation


def settings(read: SettingsReader) -> None:
    """The numbers of each layer's activation: keys of a GGUF file, tensors of a folder."""
    layers = read.config["block_count"].value
    for key in KEYS:
        if read.container.kind == "gguf":  # keys without the architecture's name
            stated = read.look_for(key)
            one_a_layer = isinstance(stated, list) and len(stated) >= layers and all(map(_is_number, stated))
            values = stated[:layers] if one_a_layer else [stated] if _is_number(stated) else []
            if values or key in DEFAULTS:
                note = (
                    "the file's own, one a layer" if values else "the class's own; llama.cpp refuses the file"
                )
                read.by_layer(key, values or [DEFAULTS[key]], note)
                continue
            raise DamagedFileError(
                f"the metadata has no {key} that is a number, or one for each of {layers} layers",
                file=read.container.path,
                remedy="export the model again with a complete configuration",
            )
        stored = [
            _number(read.container, FOLDER.format(layer=layer, number=key.partition(".")[2]))
            for layer in range(layers)
        ]
        default = DEFAULTS.get(key, 0.0)
        read.by_layer(key, [default if value is None else value for value in stored], "tensors of the layers")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _number(container: Container, name: str) -> float | None:
    """The one number of a tensor, as float32 has it; None where there is no such tensor."""
    entry = container.tensors.get(name)
    if entry is None or not entry.nbytes:
        return None
    values = blocks.decode(entry.dtype, torch.from_numpy(container.read(name)), (1,))
    return float(values[0])


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention with normed heads, then a network without a gate."""
    return sequential(
        output_of(n - 1),
        attention(norm=a.norm_of("attn_norm"), rope=Rotary(SPLIT_HALF), head_norm=a.head_norm),
        feed_forward(norm=a.norm_of("ffn_norm"), gated=False, act=Xielu(n)),
    )


APERTUS = Architecture(
    "apertus",
    gguf="apertus",
    classes=("ApertusForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="xielu",
    gated=False,
    rope_theta=Default(apr=10000.0, gguf=10000.0, huggingface=12e6),
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, ApertusConfig
            "block_count": 32,
            "context_length": 65536,
            "embedding_length": 4096,
            "feed_forward_length": 14336,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "vocab_size": 131072,
            "tied_embeddings": False,
            "rope.scaling": {
                "rope_type": "llama3",
                "rope_theta": 12e6,
                "factor": 8.0,
                "original_max_position_embeddings": 8192,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
            },
        },
        flags={"attention_bias": False},
        names={
            "model.layers.{bid}.attention_layernorm": "blk.{bid}.attn_norm",
            "model.layers.{bid}.feedforward_layernorm": "blk.{bid}.ffn_norm",
        },
        parameters={
            "model.layers.{bid}.mlp.act_fn.alpha_n": "blk.{bid}.xielu.alpha_n",
            "model.layers.{bid}.mlp.act_fn.alpha_p": "blk.{bid}.xielu.alpha_p",
            "model.layers.{bid}.mlp.act_fn.beta": "blk.{bid}.xielu.beta",
            "model.layers.{bid}.mlp.act_fn.eps": "blk.{bid}.xielu.eps",
        },
        dims={"xielu.alpha_n": (1,), "xielu.alpha_p": (1,), "xielu.beta": (), "xielu.eps": ()},
    ),
)
APERTUS_1_5 = replace(
    APERTUS,
    name="apertus1p5",
    classes=("Apertus1p5TextForCausalLM", "Apertus1p5ForConditionalGeneration", "apertus1p5_text"),
    huggingface=replace(
        APERTUS.huggingface,
        model_type="apertus1p5_text",
        defaults={**APERTUS.huggingface.defaults, "vocab_size": 266752},  # transformers, Apertus1p5TextConfig
    ),
)
