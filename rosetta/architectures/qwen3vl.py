"""The text parts of Qwen3-VL and Qwen3-ASR: qwen3, with rotary sections of three kinds of positions, which are one and
the same of a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rosetta.architectures import Default
from rosetta.architectures.parts import factors
from rosetta.architectures.parts.expert_settings import INTERLEAVED_SECTIONS, rotary_sections
from rosetta.architectures.qwen3 import QWEN3
from rosetta.settings_reader import SettingsReader

DEEPSTACK = (8, 16, 24)  # transformers, Qwen3VLVisionConfig and Qwen3VLMoeVisionConfig


def settings(read: SettingsReader) -> None:
    """The sections."""
    rotary_sections(read, [24, 20, 20], in_turns=True)


def deepstack_layers(config: Mapping[str, Any]) -> int | None:
    """How many layers features of an image are added to: llama.cpp holds the file of the part that sees to it.

    Args:
        config: config.json; None is returned where it speaks of no part that sees.
    """
    sight = config.get("vision_config")
    layers = sight.get("deepstack_visual_indexes", DEEPSTACK) if isinstance(sight, Mapping) else None
    return len(layers) if isinstance(layers, list | tuple) else None


QWEN3VL = replace(
    QWEN3,
    name="qwen3vl",
    gguf="qwen3vl",
    classes=("Qwen3VLForConditionalGeneration", "qwen3_vl", "qwen3_vl_text"),
    rope_theta=Default(apr=5e5, gguf=10000.0, huggingface=5e5),
    settings=settings,
    text_part="qwen3",
    huggingface=replace(
        QWEN3.huggingface,
        model_type="qwen3_vl",
        defaults={  # transformers, Qwen3VLTextConfig
            "block_count": 32,
            "context_length": 128000,
            "embedding_length": 4096,
            "feed_forward_length": 22016,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "attention.key_length": 128,
            "vocab_size": 151936,
            "tied_embeddings": False,
        },
        keys=INTERLEAVED_SECTIONS,
    ),
    llamacpp=replace(
        QWEN3.llamacpp,
        reads=frozenset({"rope.dimension_sections"}),
        sight={"n_deepstack_layers": deepstack_layers},
        factors=factors.ATTENTION,
    ),
)
QWEN3_ASR = replace(
    QWEN3VL,
    name="qwen3_asr",
    classes=("Qwen3ASRForConditionalGeneration", "qwen3_asr"),
    rope_theta=QWEN3.rope_theta,
    huggingface=replace(
        QWEN3VL.huggingface,
        model_type="qwen3_asr",
        defaults=QWEN3.huggingface.defaults,
    ),
    llamacpp=replace(QWEN3VL.llamacpp, sight={}),
)
