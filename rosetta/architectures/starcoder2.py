"""StarCoder 2: llama with LayerNorms, biases everywhere and a network without a gate."""

from rosetta.architectures import Architecture, Default, HuggingFace

STARCODER2 = Architecture(
    "starcoder2",
    gguf="starcoder2",
    classes=("Starcoder2ForCausalLM",),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu_tanh",
    gated=False,
    huggingface=HuggingFace(
        defaults={  # transformers, Starcoder2Config
            "block_count": 30,
            "context_length": 4096,
            "embedding_length": 3072,
            "feed_forward_length": 12288,
            "attention.head_count": 24,
            "attention.head_count_kv": 2,
            "vocab_size": 49152,
            "tied_embeddings": True,
            "attention.sliding_window": 0,
        },
        spellings={
            "attention.layer_norm_epsilon": "norm_epsilon",
        },
        flags={"use_bias": True},
        names={
            "model.layers.{bid}.mlp.c_fc": "blk.{bid}.ffn_up",
            "model.layers.{bid}.mlp.c_proj": "blk.{bid}.ffn_down",
        },
    ),
)
