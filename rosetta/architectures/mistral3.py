"""Ministral 3 and Devstral 2: mistral with queries that grow with the logarithm of their position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.deepseek2 import MISTRAL4
from rosetta.architectures.mistral import MISTRAL
from rosetta.architectures.parts import factors
from rosetta.architectures.parts.expert_settings import experts_of_gguf
from rosetta.architectures.parts.growing_queries import GROWING_QUERIES
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.containers.huggingface.text_part import text_config
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.temperature import Temperature
from rosetta.settings_reader import SettingsReader


def _text_part(metadata: Mapping[str, Any]) -> object:
    """Which model reads the text where another part sees: mistral, ministral3 or mistral4, all of one class."""
    return text_config(metadata).get("model_type")


def _read_by(metadata: Mapping[str, Any]) -> Architecture | None:
    """The architecture of the part that reads; mistral's own class has other defaults."""
    part = _text_part(metadata)
    if part == "mistral":
        return replace(
            MISTRAL3,
            norm_epsilon=MISTRAL.norm_epsilon,
            huggingface=replace(MISTRAL3.huggingface, defaults=MISTRAL.huggingface.defaults),
        )
    return MISTRAL4 if part == "mistral4" else None


def settings(read: SettingsReader) -> None:
    """By how much queries grow, and after how many positions: those of the context before it was stretched."""
    experts_of_gguf(read)
    context = read.config["context_length"].value
    tables = ("rope_parameters", "rope_scaling")
    grows = _text_part(read.container.metadata) != "mistral"
    read.take(
        "attention.temperature_scale",
        "number",
        Default(apr=0.0, gguf=0.0, huggingface=0.1 if grows else 0.0),
        tuple(f"{table}.llama_4_scaling_beta" for table in tables),
    )
    stretched = tuple(f"{table}.original_max_position_embeddings" for table in tables)
    stated = read.raw("rope.scaling.original_context_length")
    whole = read.own_table().get("original_max_position_embeddings", context)
    read.take("attention.temperature_length", "count", stated.value if stated else whole, stretched)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A layer of the llama family, its rotated queries scaled; of experts, in a GGUF that has some."""
    return mixture_layer(a, c, n, mixer={"after_rope": {"q": Temperature()}.get})


MISTRAL3 = Architecture(
    "mistral3",
    gguf="mistral3",
    classes=("Ministral3ForCausalLM", "Mistral3ForConditionalGeneration", "ministral3"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=INTERLEAVED,
    settings=settings,
    layer=layer,
    variant=_read_by,
    huggingface=HuggingFace(
        model_type="ministral3",
        defaults={  # transformers, Ministral3Config
            "block_count": 34,
            "context_length": 262144,
            "embedding_length": 4096,
            "feed_forward_length": 14336,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "attention.sliding_window": 0,
            "rope.scaling": {
                "type": "yarn",
                "rope_theta": 1e6,
                "factor": 16.0,
                "original_max_position_embeddings": 16384,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
            },
            "vocab_size": 131072,
            "tied_embeddings": False,
        },
        keys={
            **GROWING_QUERIES,  # its class divides by the length even where nothing grows
            "rope_parameters.original_max_position_embeddings": lambda c: (
                c["attention.temperature_length"].value
            ),
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset(
            {
                "attention.temperature_scale",
                "rope.scaling.yarn_beta_fast",
                "rope.scaling.yarn_beta_slow",
                "rope.scaling.yarn_log_multiplier",
            }
        ),
        factors=factors.ATTENTION | factors.NETWORK | factors.EXPERTS,
    ),
)
