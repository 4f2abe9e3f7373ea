"""Llama 1 to 3: RMSNorm, rotary q and k in interleaved rows, SwiGLU. Llama 3.1 adds rope scaling, as factors.

GGUF files Mixtral under the same name: a llama with experts. Emu3's text part is one without.
"""

from __future__ import annotations

from dataclasses import replace

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors
from rosetta.architectures.parts.expert_settings import expert_settings, experts_of_gguf
from rosetta.architectures.parts.folder_names import BLOCK_SPARSE
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.settings_reader import SettingsReader


def mixtral_settings(read: SettingsReader) -> None:
    """Experts as wide as a dense network, weighed by a softmax whose chosen parts sum to one."""
    expert_settings(read, count=8, used=Default(apr=2, gguf=None, huggingface=2), like_dense=True)


LLAMA = Architecture(
    "llama",
    gguf="llama",
    classes=("LlamaForCausalLM",),
    rope=INTERLEAVED,
    settings=experts_of_gguf,
    layer=mixture_layer,
    huggingface=HuggingFace(
        defaults={  # transformers, LlamaConfig
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "vocab_size": 32000,
            "tied_embeddings": False,
        },
        flags={"attention_bias": False, "mlp_bias": False},
    ),
    llamacpp=LlamaCpp(factors=factors.ATTENTION | factors.NETWORK | factors.EXPERTS),
)
MIXTRAL = replace(
    LLAMA,
    name="mixtral",
    classes=("MixtralForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=1e6),
    settings=mixtral_settings,
    huggingface=replace(
        LLAMA.huggingface,
        model_type="",
        defaults={  # transformers, MixtralConfig
            "block_count": 32,
            "context_length": 131072,
            "embedding_length": 4096,
            "feed_forward_length": 14336,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "attention.sliding_window": 0,
            "vocab_size": 32000,
            "tied_embeddings": False,
        },
        spellings={
            "expert_count": "num_local_experts",
        },
        names=BLOCK_SPARSE,
    ),
)
EMU3 = replace(
    LLAMA,
    name="emu3",
    classes=("Emu3ForConditionalGeneration", "Emu3ForCausalLM", "emu3_text_model"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=1e6),
    text_part="llama",
    huggingface=replace(
        LLAMA.huggingface,
        defaults={  # transformers, Emu3TextConfig
            "block_count": 32,
            "context_length": 9216,
            "embedding_length": 4096,
            "feed_forward_length": 14336,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "vocab_size": 184622,
            "tied_embeddings": False,
        },
        flags={},
    ),
)
