"""EXAONE 3 and 3.5: llama whose rows are never reordered."""

from rosetta.architectures.architecture import Architecture, Default

EXAONE = Architecture(
    "exaone",
    gguf="exaone",
    classes=("ExaoneForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope_theta=Default(apr=10000.0, gguf=10000.0, huggingface=5e5),
    huggingface={  # transformers, ExaoneConfig
        "block_count": 32,
        "context_length": 4096,
        "embedding_length": 4096,
        "feed_forward_length": 14336,
        "attention.head_count": 32,
        "attention.head_count_kv": 8,
        "vocab_size": 102400,
        "tied_embeddings": False,
    },
)
