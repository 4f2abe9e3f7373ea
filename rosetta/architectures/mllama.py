"""The text part of Llama 3.2 Vision: llama. Layers that attend to an image alone are passed over where there is none.
No GGUF has it: llama.cpp does not know the model."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.architectures.llama import LLAMA
from rosetta.architectures.parts.architecture import decoder_layer
from rosetta.architectures.parts.builders import output_of
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Add
from rosetta.setting_values import listed
from rosetta.settings_reader import SettingsReader

SEEING = "attention.cross_layers"


def settings(read: SettingsReader) -> None:
    """Which layers attend to an image."""
    stated = read.spelled("cross_attention_layers")
    seeing = range(3, 40, 5) if stated is None or not isinstance(stated.value, list) else stated.value
    layers = range(read.config["block_count"].value)
    key = None if stated is None else stated.key
    read.by_layer(SEEING, [n in seeing for n in layers], "default of transformers", key)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A layer of the llama family; of a text alone, nothing where it would attend to an image."""
    if c[SEEING]:
        return [Stage("residual", Add(), (output_of(n - 1),))]
    return decoder_layer(a, c, n)


MLLAMA = replace(
    LLAMA,
    name="mllama",
    gguf="mllama",
    classes=("MllamaForCausalLM", "MllamaForConditionalGeneration", "mllama_text_model"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope_theta=Default(apr=5e5, gguf=5e5, huggingface=5e5),
    settings=settings,
    tokens_beyond=8,  # of the image (transformers, MllamaTextModel)
    layer=layer,
    huggingface=HuggingFace(
        model_type="mllama_text_model",
        defaults={  # transformers, MllamaTextConfig
            "block_count": 40,
            "context_length": 131072,
            "embedding_length": 4096,
            "feed_forward_length": 14336,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "vocab_size": 128256,
            "tied_embeddings": False,
        },
        keys={"cross_attention_layers": lambda c: [n for n, sees in enumerate(listed(c, SEEING)) if sees]},
    ),
)
