"""The text part of Qwen2-VL and Qwen2.5-VL: qwen2, with rotary sections of three kinds of positions, which are one and
the same of a text."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import Default
from rosetta.architectures.parts.expert_settings import rotary_sections, stated_sections
from rosetta.architectures.qwen2 import QWEN2
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The sections, and the norms' epsilon, which llama.cpp does not read of such a file (models/qwen2vl.cpp)."""
    rotary_sections(read, [16, 24, 24])
    if read.container.kind == "gguf":
        key = read.architecture.epsilon_key
        read.raw(key)
        read.fixed(key, 0.0, "llama.cpp does not read it of this architecture and takes 0")


QWEN2VL = replace(
    QWEN2,
    name="qwen2vl",
    gguf="qwen2vl",
    classes=("Qwen2VLForConditionalGeneration", "qwen2_vl", "qwen2_vl_text"),
    norm_epsilon=Default(apr=1e-6, gguf=0.0, huggingface=1e-5),
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=1e6),
    settings=settings,
    text_part="qwen2",
    huggingface=replace(
        QWEN2.huggingface,
        model_type="qwen2_vl",
        defaults={  # transformers, Qwen2VLTextConfig
            "block_count": 80,
            "context_length": 32768,
            "embedding_length": 8192,
            "feed_forward_length": 29568,
            "attention.head_count": 64,
            "attention.head_count_kv": 8,
            "attention.sliding_window": 4096,
            "use_sliding_window": False,
            "max_window_layers": 80,
            "vocab_size": 152064,
            "tied_embeddings": False,
        },
        keys={"rope_parameters.mrope_section": stated_sections},
    ),
    llamacpp=replace(
        QWEN2.llamacpp,
        reads=frozenset({"rope.dimension_sections"}),
        idle=frozenset({"output.bias"}),
    ),
)
QWEN25VL = replace(
    QWEN2VL,
    name="qwen2_5_vl",
    classes=("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl_text", "qwen2_5_omni_text"),
    huggingface=replace(QWEN2VL.huggingface, model_type="qwen2_5_vl"),
)
