"""The text part of PaddleOCR-VL: ERNIE 4.5, turned by halves, with rotary sections of three kinds of positions, which
are one and the same of a text."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import SPLIT_HALF
from rosetta.architectures.ernie4_5 import ERNIE4_5
from rosetta.architectures.parts.expert_settings import rotary_sections, stated_sections
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The sections."""
    rotary_sections(read, [16, 24, 24])


PADDLEOCR = replace(
    ERNIE4_5,
    name="paddleocr",
    gguf="paddleocr",
    classes=("PaddleOCRVLForConditionalGeneration", "paddleocr_vl", "paddleocr_vl_text"),
    rope=SPLIT_HALF,
    settings=settings,
    huggingface=replace(
        ERNIE4_5.huggingface,
        model_type="paddleocr_vl",
        keys={"rope_parameters.mrope_section": stated_sections},
        senses={"vision_config": {"num_hidden_layers": 0}},
        rope=SPLIT_HALF,
    ),
    llamacpp=replace(ERNIE4_5.llamacpp, idle=frozenset()),
)
