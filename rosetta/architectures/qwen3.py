"""Qwen3: llama with an RMSNorm over each head of q and k, and a head size of its own."""

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors

QWEN3 = Architecture(
    "qwen3",
    gguf="qwen3",
    classes=("Qwen3ForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=10000.0),
    qk_norm=True,
    huggingface=HuggingFace(
        defaults={  # transformers, Qwen3Config
            "block_count": 32,
            "context_length": 32768,
            "embedding_length": 4096,
            "feed_forward_length": 22016,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "attention.key_length": 128,
            "attention.sliding_window": 4096,
            "use_sliding_window": False,
            "max_window_layers": 28,  # the layers from this one on slide
            "vocab_size": 151936,
            "tied_embeddings": False,
        },
        flags={"attention_bias": False},
    ),
    llamacpp=LlamaCpp(factors=factors.ATTENTION | factors.NETWORK),
)
