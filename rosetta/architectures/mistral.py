"""Mistral: llama with a sliding window; GGUF files it under `llama`."""

from rosetta.architectures import INTERLEAVED, Architecture, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors

MISTRAL = Architecture(
    "mistral",
    gguf="llama",
    classes=("MistralForCausalLM",),
    rope=INTERLEAVED,
    huggingface=HuggingFace(
        defaults={  # transformers, MistralConfig
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
    ),
    llamacpp=LlamaCpp(factors=factors.ATTENTION | factors.NETWORK | factors.EXPERTS),
)
