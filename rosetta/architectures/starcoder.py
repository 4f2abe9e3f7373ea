"""StarCoder 1 (GPT-BigCode): GPT-2 with one head of keys and values for all."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.architectures.gpt2 import GPT2
from rosetta.architectures.parts.readings import readings_by_key_group
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """How many heads of keys, which a flag of the folder says."""
    shared = read.spelled("multi_query")
    if read.container.kind == "huggingface" and shared is not None and not shared.value:
        read.fixed("attention.head_count_kv", read.config["attention.head_count"].value, "multi_query is off")


STARCODER = Architecture(
    "starcoder",
    gguf="starcoder",
    classes=("GPTBigCodeForCausalLM", "gpt_bigcode"),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu_tanh",
    gated=False,
    rope=None,
    learned_positions=True,
    always=GPT2.always,
    settings=settings,
    readings=readings_by_key_group,
    huggingface=HuggingFace(
        reads=frozenset({"n_inner", "scale_attn_weights"}),
        unread=GPT2.huggingface.unread - {"attention.head_count_kv"},
        model_type="gpt_bigcode",
        defaults={  # transformers, GPTBigCodeConfig
            "block_count": 12,
            "context_length": 1024,
            "embedding_length": 768,
            "attention.head_count": 12,
            "attention.head_count_kv": 1,
            "vocab_size": 50257,
            "tied_embeddings": True,
        },
        spellings=GPT2.huggingface.spellings,
        names=GPT2.huggingface.names,
    ),
)
