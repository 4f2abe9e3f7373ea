"""InternLM 2: llama whose folder has the queries that share a key, that key and its value beside each other."""

from __future__ import annotations

from rosetta.architectures.architecture import INTERLEAVED, Architecture, Default
from rosetta.architectures.readings import readings_by_key_group

INTERNLM2 = Architecture(
    "internlm2",
    gguf="internlm2",
    classes=("InternLM2ForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-6),
    rope=INTERLEAVED,
    readings=readings_by_key_group,
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
