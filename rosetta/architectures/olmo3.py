"""OLMo 3: OLMo 2 with a window in three of four layers, and rope scaling in the others; GGUF files it under `olmo2`."""

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.olmo2 import layer, settings
from rosetta.architectures.parts.folder_names import POST_NORMS
from rosetta.architectures.parts.stated_kinds import SLIDING_LISTED

OLMO3 = Architecture(
    "olmo3",
    gguf="olmo2",
    classes=("Olmo3ForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-5),
    rope_theta=Default(apr=5e5, gguf=10000.0, huggingface=5e5),
    full_attention_every=4,
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, Olmo3Config
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "attention.sliding_window": 4096,
            "vocab_size": 50304,
            "tied_embeddings": False,
        },
        flags={"attention_bias": False},
        names=POST_NORMS,
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"rope.freq_base_swa"}),
        keys=SLIDING_LISTED,
    ),
)
