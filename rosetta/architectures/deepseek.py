"""DeepSeek-MoE (v1): llama with a dense first layer, then experts whose weights are those of all, and shared ones."""

from __future__ import annotations

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.expert_settings import expert_settings, leading_dense, shared_expert
from rosetta.architectures.parts.folder_names import gated
from rosetta.architectures.parts.mixtures import mixture_layer
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """The experts, never normalised in llama.cpp."""
    expert_settings(
        read,
        width=Default(apr=None, gguf=None, huggingface=1407),
        normalised=False,
        scale=1.0,
    )
    shared_expert(read, None, "n_shared_experts")
    leading_dense(read, 0, "first_k_dense_replace")


DEEPSEEK = Architecture(
    "deepseek",
    gguf="deepseek",
    classes=("DeepseekForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope=INTERLEAVED,
    settings=settings,
    layer=mixture_layer,
    huggingface=HuggingFace(
        in_transformers=False,
        defaults={  # the published configuration_deepseek.py; transformers has none
            "block_count": 30,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "vocab_size": 102400,
            "tied_embeddings": False,
        },
        spellings={
            "expert_count": "n_routed_experts",
        },
        only_with={"moe_layer_freq": (1,)},
        names=gated("mlp.shared_experts", "_shexp"),
    ),
    llamacpp=LlamaCpp(
        reads=frozenset(
            {
                "expert_feed_forward_length",
                "expert_shared_count",
                "expert_weights_scale",
                "leading_dense_block_count",
            }
        ),
    ),
)
