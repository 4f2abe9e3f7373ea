"""MiniCPM 1 and 2: granite, its factors under names of their own."""

from __future__ import annotations

import math

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.granite import layer
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.builders import embedding, head, output_of
from rosetta.architectures.parts.expert_settings import experts_of_gguf
from rosetta.ops.pointwise import Scale
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The factors: llama.cpp's where a GGUF file has none (models/minicpm.cpp), else what the folder's keys give.
    And the experts of a GGUF."""
    experts_of_gguf(read)
    layers, width = read.config["block_count"].value, read.config["embedding_length"].value
    if read.container.kind == "huggingface":
        said = {key: read.spelled(key) for key in ("scale_depth", "dim_model_base")}
        depth, base = (float(setting.value) if setting is not None else 1.0 for setting in said.values())
        read.take("embedding_scale", "number", 1.0, ("scale_emb",))
        read.take("residual_scale", "number", depth / math.sqrt(layers), note="scale_depth / √(layers)")
        read.take("logit_scale", "number", width / base, note="the embedding length / dim_model_base")
        return
    read.take("embedding_scale", "number", 12.0)
    read.take("residual_scale", "number", 1.4 / math.sqrt(layers))
    read.take("logit_scale", "number", 256.0 / width)


MINICPM = Architecture(
    "minicpm",
    gguf="minicpm",
    classes=("MiniCPMForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-6),
    rope=INTERLEAVED,
    settings=settings,
    before=lambda a, c: embedding(Scale("embedding_scale")),
    layer=layer,
    after=lambda a, layers: head(
        output_of(layers - 1), Scale("logit_scale", inverse=True), norm=a.norm_of("output_norm")
    ),
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # configuration_minicpm.py of openbmb/MiniCPM-2B
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "vocab_size": 32000,
            "tied_embeddings": True,
        },
        spellings={"embedding_scale": "scale_emb"},
    ),
    llamacpp=LlamaCpp(reads=llamacpp_keys.FACTORS),
)
