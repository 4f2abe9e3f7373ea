"""Mistral: llama with a sliding window; GGUF files it under `llama`."""

from rosetta.architectures.architecture import (
    ATTENTION_FACTORS,
    EXPERT_FACTORS,
    INTERLEAVED,
    NETWORK_FACTORS,
    Architecture,
)

MISTRAL = Architecture(
    "mistral",
    gguf="llama",
    gguf_factors=ATTENTION_FACTORS | NETWORK_FACTORS | EXPERT_FACTORS,
    classes=("MistralForCausalLM",),
    rope=INTERLEAVED,
    huggingface={  # transformers, MistralConfig
        "block_count": 32,
        "context_length": 131072,
        "embedding_length": 4096,
        "feed_forward_length": 14336,
        "attention.head_count": 32,
        "attention.head_count_kv": 8,
        "attention.sliding_window": 4096,
        "vocab_size": 32000,
        "tied_embeddings": False,
    },
)
