"""StarCoder 1 (GPT-BigCode): GPT-2 with one head of keys and values for all."""

from __future__ import annotations

from rosetta.architectures.architecture import Architecture, Default
from rosetta.architectures.readings import Reading, Stored, by_key_group, standard_readings
from rosetta.ops.op import Settings


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """Where each head has keys of its own, a folder has its q, k and v beside each other."""
    if stored.stem == "attn_qkv" and stored.foreign:
        return by_key_group(stored, c)
    found = standard_readings(stored, c)
    return None if found is None else list(found)


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
    readings=readings,
    huggingface={  # transformers, GPTBigCodeConfig
        "block_count": 12,
        "context_length": 1024,
        "embedding_length": 768,
        "attention.head_count": 12,
        "attention.head_count_kv": 1,
        "vocab_size": 50257,
        "tied_embeddings": True,
    },
)
