"""Where config.json speaks of the part that reads and writes text, in a model that also sees, hears or speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

PLACES = ("text_config", "llm_config", "lm_config", "language_config", "thinker_config.text_config")
"""Keys of the part's own table: transformers' (the last of Qwen's Omni), and those of code that lies beside published
weights (InternVL, Nemotron; MiniCPM-V; DeepSeek-VL). llama.cpp's converter knows the same ones (conversion/base.py)."""
NESTING = frozenset(place.partition(".")[0] for place in PLACES)
"""Keys of config.json that hold such a table, or one that does."""

TIED = frozenset({
    "aya_vision", "cohere2_vision", "deepseek_vl", "deepseek_vl_hybrid", "ernie4_5_vl_moe", "fun_asr_nano", "gemma3",
    "gemma3n", "gemma4", "gemma4_unified", "glmasr", "got_ocr2", "granite_docling", "granite_speech",
    "granite_speech_plus", "hunyuan_vl", "hyperclovax_vision_v2", "internvl", "janus", "kimi_k25", "lfm2_vl", "lfm3_vl",
    "lighton_ocr", "minicpm_ocr", "mistral3", "moss_transcribe_diarize", "ovis2", "paddleocr_vl", "paligemma",
    "pp_chart2table", "qwen3_asr", "shieldgemma2",
})  # fmt: skip
"""What config.json calls the models whose class ties the head where it does not say (transformers 5.24): it ties by
what is said of the whole, never by what is said of a part."""

TIED_BY_EITHER = frozenset({
    "fast_vlm", "glm4v", "glm4v_moe", "glm_ocr", "hunyuan_vl", "llava", "llava_next_video", "llava_onevision",
    "minimax_m3_vl", "paddleocr_vl",
})  # fmt: skip
"""Those whose class ties the head where the whole or its part says so (transformers 5.24)."""


class TextPart(NamedTuple):
    """The part's own table.

    Args:
        config: its keys and values.
        prefix: what stands before a key of it in a message: `text_config.`.
    """

    config: Mapping[str, Any]
    prefix: str

    @property
    def place(self) -> str:
        """The key of config.json that holds the table, of each level with a dot between."""
        return self.prefix.removesuffix(".")


def text_part(config: Mapping[str, Any]) -> TextPart | None:
    """The first such table of a config.json; None where the whole of it speaks of a text."""
    for place in PLACES:
        found: Any = config
        for key in place.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            return TextPart(found, f"{place}.")
    return None


def whole(config: Mapping[str, Any]) -> TextPart:
    """The table of the model that the part is of: all of config.json, but where one that talks stands beside it."""
    part = text_part(config)
    outer, _, _ = ("" if part is None else part.place).rpartition(".")
    return TextPart(config[outer], f"{outer}.") if outer else TextPart(config, "")


def tables(config: Mapping[str, Any]) -> list[TextPart]:
    """The tables that speak of a text, the first before the others. A part that names its own class is read by that
    alone: what stands outside of it is of the whole, or of another part."""
    part, outer = text_part(config), TextPart(config, "")
    if part is None:
        return [outer]
    return [part] if isinstance(part.config.get("model_type"), str) else [part, outer]


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part's own table; an empty one where there is none."""
    part = text_part(config)
    return {} if part is None else part.config


def own_key(config: Mapping[str, Any], key: str) -> str:
    """A key of config.json as the part's own table spells it, without that table's name."""
    part = text_part(config)
    return key if part is None else key.removeprefix(part.prefix)


def without_rotation(config: Mapping[str, Any]) -> bool:
    """Whether a config.json that transformers 5 wrote says nothing of the rotation, which it keeps in a table."""
    keys = {"rope_parameters", "rope_scaling", "rope_theta"}
    major = str(config.get("transformers_version", "")).partition(".")[0]
    fifth = major.isdecimal() and int(major) >= 5
    return fifth and not any(keys & table.config.keys() for table in tables(config))


def tied_unless_stated(config: Mapping[str, Any]) -> bool:
    """Whether the head is the embedding by the default of the whole's own class, of which config.json says nothing."""
    model = whole(config).config
    unsaid = text_part(config) is not None and model.get("tie_word_embeddings") is None
    return unsaid and model.get("model_type") in TIED
