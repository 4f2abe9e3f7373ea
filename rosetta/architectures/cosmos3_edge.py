"""The text part of Cosmos 3 Edge: llama whose network is a squared ReLU without a gate, with rotary sections of three
kinds of positions, which are one and the same of a text. No GGUF has it: llama.cpp does not know the model."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.architectures.parts.expert_settings import rotary_sections, stated_sections
from rosetta.architectures.parts.folder_names import in_layers
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The sections."""
    rotary_sections(read, [24, 20, 20])


COSMOS3_EDGE = Architecture(
    "cosmos3_edge",
    gguf="cosmos3_edge",
    classes=("Cosmos3EdgeForConditionalGeneration", "cosmos3_edge_text"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="relu_squared",
    gated=False,
    rope_theta=Default(apr=1e8, gguf=1e8, huggingface=1e8),
    settings=settings,
    huggingface=HuggingFace(
        defaults={  # transformers, Cosmos3EdgeTextConfig
            "block_count": 28,
            "context_length": 131072,
            "embedding_length": 2048,
            "feed_forward_length": 9216,
            "attention.head_count": 16,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "vocab_size": 131072,
            "tied_embeddings": False,
        },
        keys={"rope_parameters.mrope_section": stated_sections},
        flags={"attention_bias": False, "mlp_bias": False},
        senses={"vision_config": {"num_hidden_layers": 0}},
        text_names="model.language_model.",
        names=in_layers({"mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"}),
    ),
)
