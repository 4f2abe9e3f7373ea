"""Phi-3.5-MoE: biases everywhere, two experts of all layers.

transformers weighs each expert among those near it and has LayerNorm; llama.cpp weighs by the softmax of all, and its
norms, which it shares with Phi-3, are RMSNorm.
"""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.expert_settings import expert_settings, of_folder
from rosetta.architectures.parts.folder_names import BLOCK_SPARSE
from rosetta.architectures.parts.mixtures import mixture_layer, router_of
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.sparse_mixer import SPARSE_MIXER, SparseMixer
from rosetta.setting_values import Value
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The experts, and the norm that each runtime has."""
    gating = of_folder(SPARSE_MIXER, 1)
    expert_settings(read, count=of_folder(16, None), used=of_folder(2, None), like_dense=True, gating=gating)
    read.take("router_jitter_noise", "number", 0.01, ("router_jitter_noise",))
    if read.container.kind == "huggingface":
        read.fixed("expert_used_count", 2, "transformers' mixer takes two, whatever the config says")
    if read.container.kind == "gguf":
        read.fixed("attention.sliding_window", 0, "llama.cpp has none")
    else:
        read.norm_type(Value("layer", None, "transformers'"))


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention, then experts."""
    router = router_of(c)
    if c["expert_gating_func"] == SPARSE_MIXER:
        router = SparseMixer(gating="expert_gating_func", normalised="expert_weights_norm")
    return mixture_layer(a, c, n, router=router)


PHIMOE = Architecture(
    "phimoe",
    gguf="phimoe",
    classes=("PhimoeForCausalLM", "PhiMoEForCausalLM"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=1e6),
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, PhimoeConfig
            "block_count": 32,
            "context_length": 131072,
            "embedding_length": 4096,
            "feed_forward_length": 6400,
            "attention.head_count": 32,
            "attention.head_count_kv": 8,
            "attention.sliding_window": 0,
            "vocab_size": 32064,
            "tied_embeddings": False,
        },
        spellings={
            "expert_count": "num_local_experts",
        },
        flags={"attention_bias": False, "lm_head_bias": False},
        names=BLOCK_SPARSE,
    ),
    llamacpp=LlamaCpp(scales_queries=True),
)
