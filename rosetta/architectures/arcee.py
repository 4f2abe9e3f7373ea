"""Arcee (AFM): llama with a network without a gate, of squared ReLU."""

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace

ARCEE = Architecture(
    "arcee",
    gguf="arcee",
    classes=("ArceeForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="relu_squared",
    gated=False,
    rope=INTERLEAVED,
    huggingface=HuggingFace(
        defaults={  # transformers, ArceeConfig
            "block_count": 32,
            "context_length": 4096,
            "embedding_length": 2560,
            "feed_forward_length": 18432,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "attention.key_length": 80,
            "vocab_size": 32000,
            "tied_embeddings": False,
        },
        flags={"attention_bias": False, "mlp_bias": False},
    ),
)
