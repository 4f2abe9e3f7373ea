"""Jais 2: llama with LayerNorms, biases everywhere, and a network without a gate, of squared ReLU."""

from rosetta.architectures import Architecture, Default, HuggingFace

JAIS2 = Architecture(
    "jais2",
    gguf="jais2",
    classes=("Jais2ForCausalLM",),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="relu_squared",
    gated=False,
    huggingface=HuggingFace(
        defaults={  # transformers, Jais2Config
            "block_count": 32,
            "context_length": 8192,
            "embedding_length": 3328,
            "feed_forward_length": 26624,
            "attention.head_count": 26,
            "attention.head_count_kv": 26,
            "vocab_size": 150272,
            "tied_embeddings": False,
        },
        spellings={
            "attention.layer_norm_epsilon": "layer_norm_eps",
        },
        flags={"attention_bias": True, "mlp_bias": True},
    ),
)
