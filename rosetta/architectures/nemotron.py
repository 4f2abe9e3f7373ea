"""Nemotron 3 and 4, Minitron: LayerNorms of which Hugging Face stores w and adds 1, squared ReLU, half of each head
rotated."""

from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.architectures.parts.readings import first_of, one_more_where, standard_readings

NEMOTRON = Architecture(
    "nemotron",
    gguf="nemotron",
    classes=("NemotronForCausalLM",),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    activation="relu_squared",
    gated=False,
    readings=first_of(one_more_where("attn_norm", "ffn_norm", "output_norm"), standard_readings),
    huggingface=HuggingFace(
        defaults={  # transformers, NemotronConfig
            "block_count": 32,
            "context_length": 4096,
            "embedding_length": 6144,
            "feed_forward_length": 24576,
            "attention.head_count": 48,
            "vocab_size": 256000,
            "tied_embeddings": False,
            "rope.partial_rotary_factor": 0.5,
        },
        spellings={
            "attention.layer_norm_epsilon": "norm_eps",
        },
        flags={"attention_bias": False, "mlp_bias": False},
    ),
)
