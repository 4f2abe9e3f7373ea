"""Orion: llama with LayerNorms, whose rows are never reordered."""

from rosetta.architectures import Architecture, Default, HuggingFace

ORION = Architecture(
    "orion",
    gguf="orion",
    classes=("OrionForCausalLM",),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # configuration_orion.py of OrionStarAI/Orion-14B-Base
            "block_count": 40,
            "context_length": 4096,
            "embedding_length": 5120,
            "feed_forward_length": 15360,
            "attention.head_count": 40,
            "vocab_size": 84608,
            "tied_embeddings": False,
        },
    ),
)
