"""InternLM 3: llama, with biases where the config says so; GGUF files it under `llama`."""

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors

INTERNLM3 = Architecture(
    "internlm3",
    gguf="llama",
    classes=("InternLM3ForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=INTERLEAVED,
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # transformers, InternLM3Config
            "block_count": 48,
            "context_length": 32768,
            "embedding_length": 4096,
            "feed_forward_length": 10240,
            "attention.head_count": 32,
            "attention.head_count_kv": 2,
            "attention.key_length": 128,
            "vocab_size": 128512,
            "tied_embeddings": False,
        },
        flags={"attention_bias": False, "mlp_bias": False},
    ),
    llamacpp=LlamaCpp(factors=factors.ATTENTION | factors.NETWORK | factors.EXPERTS),
)
