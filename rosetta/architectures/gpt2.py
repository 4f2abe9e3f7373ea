"""GPT-2: LayerNorm, learned positions, biases everywhere, no gate; its Hugging Face linears are Conv1D."""

from rosetta.architectures.architecture import Architecture, Default

GPT2 = Architecture(
    "gpt2",
    gguf="gpt2",
    classes=("GPT2LMHeadModel",),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="gelu_tanh",
    gated=False,
    rope=None,
    learned_positions=True,
    conv1d=frozenset({"attn_qkv", "attn_output", "ffn_up", "ffn_down"}),
    huggingface={  # transformers, GPT2Config
        "block_count": 12,
        "context_length": 1024,
        "embedding_length": 768,
        "attention.head_count": 12,
        "vocab_size": 50257,
        "tied_embeddings": True,
    },
)
