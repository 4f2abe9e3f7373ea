"""GLM-4 (0414), and the text parts of GLM-4.1V, GLM-4.6V and GLM-OCR: norms before and after each block, half of each
head rotated, gate and up in one tensor."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import (
    attention,
    feed_forward,
    output_of,
    rotary_of,
    scores_of,
    sequential,
)
from rosetta.architectures.parts.expert_settings import SECTIONS_OF_FOLDERS, rotary_sections, stated_sections
from rosetta.architectures.parts.readings import first_of, gate_beside_up, standard_readings
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.rotary import SECTIONS
from rosetta.setting_values import Value
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Which rotary pairs turn by which position, in one that also sees. llama.cpp turns halves there, and its converter
    orders the rows so (llama-model.cpp, llama_model_rope_type): a GGUF that says nothing says that it does not see."""
    stated, of_gguf = read.raw(SECTIONS) or read.spelled(*SECTIONS_OF_FOLDERS), read.container.kind == "gguf"
    sees = stated is not None and isinstance(stated.value, list | tuple) and any(stated.value)
    if sees or of_gguf:
        rotary_sections(read, [])
    if sees and of_gguf and "rope.type" not in read.overrides:
        found = read.config[SECTIONS]
        read.config["rope.type"] = Value(read.architecture.gguf_rope({SECTIONS: found.value}), found.key)


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention, then a gated network, each normed before and after."""
    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=rotary_of(c, INTERLEAVED),
            scores=scores_of(c),
            post_norm=a.norm_of("post_attention_norm"),
        ),
        feed_forward(norm=a.norm_of("ffn_norm"), post_norm=a.norm_of("post_ffw_norm")),
    )


GLM4 = Architecture(
    "glm4",
    gguf="glm4",
    classes=("Glm4ForCausalLM",),
    norm_epsilon=Default(apr=1.5625e-7, gguf=1.5625e-7, huggingface=1.5625e-7),
    rope=INTERLEAVED,
    halves_with=SECTIONS,
    settings=settings,
    readings=first_of(gate_beside_up, standard_readings),
    layer=layer,
    huggingface=HuggingFace(
        reads=frozenset({"partial_rotary_factor"}),
        defaults={  # transformers, Glm4Config
            "block_count": 40,
            "context_length": 131072,
            "embedding_length": 4096,
            "feed_forward_length": 13696,
            "attention.head_count": 32,
            "attention.head_count_kv": 2,
            "attention.key_length": 128,
            "vocab_size": 151552,
            "tied_embeddings": False,
            "rope.partial_rotary_factor": 0.5,
        },
        keys={"rope_parameters.mrope_section": stated_sections},
        flags={"attention_bias": True},
        names={
            "model.layers.{bid}.mlp.gate_up_proj": "blk.{bid}.ffn_up",
            "model.layers.{bid}.post_mlp_layernorm": "blk.{bid}.post_ffw_norm",
            "model.layers.{bid}.post_self_attn_layernorm": "blk.{bid}.post_attention_norm",
            "model.layers.{bid}.post_attention_layernorm": "blk.{bid}.ffn_norm",
        },
        rope=INTERLEAVED,
    ),
    llamacpp=LlamaCpp(reads=frozenset({"rope.dimension_sections"})),
)
GLM4V = replace(
    GLM4,
    name="glm4v",
    classes=("Glm4vForConditionalGeneration", "glm4v", "glm4v_text", "glm46v", "glmga"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    text_part="glm4",
    huggingface=replace(
        GLM4.huggingface,
        model_type="glm4v",
        defaults={  # transformers, Glm4vTextConfig
            "block_count": 40,
            "context_length": 32768,
            "embedding_length": 4096,
            "feed_forward_length": 13696,
            "attention.head_count": 32,
            "attention.head_count_kv": 2,
            "vocab_size": 151552,
            "tied_embeddings": False,
        },
    ),
)
GLM_OCR = replace(
    GLM4V,
    name="glm_ocr",
    classes=("GlmOcrForConditionalGeneration", "glm_ocr", "glm_ocr_text"),
    huggingface=replace(
        GLM4V.huggingface,
        model_type="glm_ocr",
        defaults={  # transformers, GlmOcrTextConfig
            "block_count": 16,
            "context_length": 131072,
            "embedding_length": 1024,
            "feed_forward_length": 4096,
            "attention.head_count": 16,
            "attention.head_count_kv": 8,
            "vocab_size": 59392,
            "tied_embeddings": False,
        },
    ),
)
