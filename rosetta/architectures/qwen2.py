"""Qwen2: llama with a bias on q, k and v; rotary rows are never reordered."""

from rosetta.architectures import Architecture, Default, HuggingFace

QWEN2 = Architecture(
    "qwen2",
    gguf="qwen2",
    classes=("Qwen2ForCausalLM",),
    always=frozenset({"attn_q.bias", "attn_k.bias", "attn_v.bias"}),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=10000.0),
    huggingface=HuggingFace(
        defaults={  # transformers, Qwen2Config
            "block_count": 32,
            "context_length": 32768,
            "embedding_length": 4096,
            "feed_forward_length": 22016,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "attention.sliding_window": 4096,
            "use_sliding_window": False,
            "max_window_layers": 28,  # the layers from this one on slide
            "vocab_size": 151936,
            "tied_embeddings": False,
        },
    ),
)
