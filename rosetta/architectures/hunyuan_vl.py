"""The text part of HunYuan-VL and HunYuan-OCR: the dense Hunyuan, whose rotary sections of four kinds of positions are
one and the same of a text; llama.cpp leaves the fourth at 0."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures.hunyuan_dense import HUNYUAN_DENSE, raised_base
from rosetta.architectures.parts.expert_settings import rotary_sections, stated_sections
from rosetta.ops.rotary import SECTIONS
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The raised base, and the sections of a file that has some."""
    raised_base(read)
    if read.raw(SECTIONS) or read.spelled(*MULTI_SECTIONS):
        rotary_sections(read, [], spellings=MULTI_SECTIONS)


MULTI_SECTIONS = tuple(
    f"{table}.{name}"
    for table in ("rope_parameters", "rope_scaling")
    for name in ("mrope_section", "xdrope_section")
)
"""Keys of config.json that say them; the last of each table is that of what was published first."""

HUNYUAN_VL = replace(
    HUNYUAN_DENSE,
    name="hunyuan_vl",
    gguf="hunyuan_vl",
    classes=("HunYuanVLForConditionalGeneration", "hunyuan_vl_text"),
    settings=settings,
    text_part="hunyuan-dense",
    huggingface=replace(
        HUNYUAN_DENSE.huggingface,
        model_type="hunyuan_vl",
        defaults={
            **HUNYUAN_DENSE.huggingface.defaults,
            "tied_embeddings": True,
        },  # transformers, HunYuanVLTextConfig
        keys={"rope_parameters.mrope_section": stated_sections},
    ),
)
