"""ERNIE 4.5 (dense): llama whose rows lie interleaved in either container."""

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import llamacpp_keys

ERNIE4_5 = Architecture(
    "ernie4_5",
    gguf="ernie4_5",
    classes=("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=INTERLEAVED,
    rope_theta=Default(apr=10000.0, gguf=10000.0, huggingface=5e5),
    huggingface=HuggingFace(
        defaults={  # transformers, Ernie4_5Config
            "block_count": 18,
            "context_length": 131072,
            "embedding_length": 1024,
            "feed_forward_length": 3072,
            "attention.head_count": 16,
            "attention.head_count_kv": 2,
            "attention.key_length": 128,
            "vocab_size": 103424,
            "tied_embeddings": True,
        },
        flags={"use_bias": False},
        rope=INTERLEAVED,
    ),
    llamacpp=LlamaCpp(
        reads=llamacpp_keys.ERNIE,
        unread=frozenset({"expert_count"}),
        idle=frozenset({"attn_output.bias"}),
    ),
)
