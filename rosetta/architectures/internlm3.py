"""InternLM 3: llama, with biases where the config says so; GGUF files it under `llama`."""

from rosetta.architectures import factors
from rosetta.architectures.architecture import INTERLEAVED, Architecture, Default

INTERNLM3 = Architecture(
    "internlm3",
    folder_flags={"attention_bias": False, "mlp_bias": False},
    gguf="llama",
    gguf_factors=factors.ATTENTION | factors.NETWORK | factors.EXPERTS,
    classes=("InternLM3ForCausalLM",),
    in_transformers=False,
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=INTERLEAVED,
    huggingface={  # transformers, InternLM3Config
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
)
