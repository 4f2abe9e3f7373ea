"""Gemma: llama with GELU, an embedding times √(its length), and norms of which Hugging Face stores w and adds 1."""

import math

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import embedding
from rosetta.architectures.parts.readings import first_of, one_more_where, standard_readings
from rosetta.ops.pointwise import Scale
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The factor of the embedding, which no file states."""
    root = math.sqrt(read.config["embedding_length"].value)
    read.take("embedding_scale", "number", root, note="√(embedding length)")


GEMMA = Architecture(
    "gemma",
    gguf="gemma",
    classes=("GemmaForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    activation="gelu_tanh",
    settings=settings,
    readings=first_of(one_more_where("attn_norm", "ffn_norm", "output_norm"), standard_readings),
    before=lambda a, c: embedding(Scale("embedding_scale")),
    huggingface=HuggingFace(
        defaults={  # transformers, GemmaConfig
            "block_count": 28,
            "context_length": 8192,
            "embedding_length": 3072,
            "feed_forward_length": 24576,
            "attention.head_count": 16,
            "attention.head_count_kv": 16,
            "attention.key_length": 256,
            "vocab_size": 256000,
            "tied_embeddings": True,
        },
        flags={"attention_bias": False},
        only_with={"use_bidirectional_attention": (False,)},
    ),
    llamacpp=LlamaCpp(scales_queries=True),
)
