"""XVERSE: llama."""

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace

XVERSE = Architecture(
    "xverse",
    gguf="xverse",
    classes=("XverseForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope=INTERLEAVED,
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # configuration_xverse.py of xverse/XVERSE-7B
            "block_count": 32,
            "context_length": 8192,
            "embedding_length": 4096,
            "feed_forward_length": 10240,
            "attention.head_count": 32,
            "vocab_size": 100534,
            "tied_embeddings": False,
        },
    ),
)
