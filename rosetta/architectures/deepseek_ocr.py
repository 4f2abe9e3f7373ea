"""The text parts of DeepSeek-OCR and Unlimited-OCR: DeepSeek-V2's experts behind llama's attention. The latter's window
is of what it writes: tokens of a prompt see all that stand before them."""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys
from rosetta.architectures.parts.expert_settings import (
    expert_settings,
    leading_dense,
    of_folder,
    shared_expert,
)
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.mixtures import WIDTH, mixture_layer
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The experts, chosen from all of them at once and never normalised by transformers."""
    expert_settings(
        read,
        count=of_folder(64, None),
        used=of_folder(6, None),
        width=of_folder(read.architecture.huggingface.defaults[WIDTH], None),
        normalised=False,
        scale=1.0,
    )
    if read.container.kind == "huggingface":
        read.fixed("expert_weights_norm", False, "transformers never does")
    shared_expert(read, of_folder(2), "n_shared_experts")
    leading_dense(read, of_folder(1), "first_k_dense_replace")


SENSES = {
    "vision_config": {
        "sam_config": {"num_hidden_layers": 0, "global_attn_indexes": []},
        "encoder_config": {"num_hidden_layers": 0},
    }
}
DEEPSEEK_OCR = Architecture(
    "deepseek2-ocr",
    gguf="deepseek2-ocr",
    classes=("DeepseekOcr2ForConditionalGeneration", "deepseek_ocr2", "deepseek_ocr2_text"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    settings=settings,
    layer=mixture_layer,
    huggingface=HuggingFace(
        model_type="deepseek_ocr2",
        defaults={  # transformers, DeepseekOcr2TextConfig
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            WIDTH: 1407,
            "vocab_size": 102400,
            "tied_embeddings": False,
        },
        spellings={"expert_count": "n_routed_experts"},
        flags={"attention_bias": False, "mlp_bias": False},
        only_with={"topk_method": ("greedy",)},
        unread=frozenset({"attention.key_length", "attention.value_length"}),
        idle=frozenset({"n_group", "topk_group", "use_mla"}),
        senses=SENSES,
        names=gated("mlp.shared_experts", "_shexp"),
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.EXPERTS,
        # deepseek2.cpp turns whole heads; the converter writes 0.
        unread=frozenset({"rope.dimension_count"}),
    ),
)
UNLIMITED_OCR = replace(
    DEEPSEEK_OCR,
    name="unlimited_ocr",
    classes=("UnlimitedOcrForConditionalGeneration", "unlimited_ocr_text"),
    huggingface=replace(
        DEEPSEEK_OCR.huggingface,
        model_type="unlimited_ocr",
        defaults={  # transformers, UnlimitedOcrTextConfig
            "block_count": 12,
            "context_length": 32768,
            "embedding_length": 1280,
            "feed_forward_length": 6848,
            "attention.head_count": 10,
            "attention.head_count_kv": 10,
            WIDTH: 896,
            "vocab_size": 129280,
            "tied_embeddings": False,
        },
    ),
)
