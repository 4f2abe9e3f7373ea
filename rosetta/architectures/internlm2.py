"""InternLM 2: llama whose folder has the queries that share a key, that key and its value beside each other."""

from __future__ import annotations

from rosetta.architectures.architecture import INTERLEAVED, Architecture, Default
from rosetta.architectures.readings import Reading, Stored, by_key_group, standard_readings
from rosetta.ops.op import Settings


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """q, k and v out of one tensor of a folder."""
    if stored.stem == "attn_qkv" and stored.foreign:
        return by_key_group(stored, c)
    found = standard_readings(stored, c)
    return None if found is None else list(found)


INTERNLM2 = Architecture(
    "internlm2",
    gguf="internlm2",
    classes=("InternLM2ForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-6),
    rope=INTERLEAVED,
    readings=readings,
    names={"model.layers.{bid}.attention.wqkv": "blk.{bid}.attn_qkv"},
    huggingface={  # configuration_internlm2.py of internlm/internlm2-7b
        "block_count": 32,
        "context_length": 2048,
        "embedding_length": 4096,
        "feed_forward_length": 11008,
        "attention.head_count": 32,
        "vocab_size": 103168,
        "tied_embeddings": False,
    },
)
