"""Llama 1 to 3: RMSNorm, rotary q and k in interleaved rows, SwiGLU. Llama 3.1 adds rope scaling, as factors."""

from rosetta.architectures.architecture import INTERLEAVED, Architecture

LLAMA = Architecture(
    "llama",
    gguf="llama",
    classes=("LlamaForCausalLM",),
    rope=INTERLEAVED,
    huggingface={  # transformers, LlamaConfig
        "block_count": 32,
        "context_length": 2048,
        "embedding_length": 4096,
        "feed_forward_length": 11008,
        "attention.head_count": 32,
        "vocab_size": 32000,
        "tied_embeddings": False,
    },
)
