"""MiniMax-M2: queries and keys normed as a whole, part rotary, sigmoid experts in all layers."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.expert_settings import expert_settings, of_folder
from rosetta.architectures.parts.folder_names import BLOCK_SPARSE
from rosetta.architectures.parts.gguf_counts import Counts, Refused
from rosetta.architectures.parts.mixtures import mixture_layer, normed_whole
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Sigmoid experts, whose weights always sum to one."""
    stated = read.spelled("intermediate_size")
    expert_settings(
        read,
        count=of_folder(256, None),
        used=of_folder(8, None),
        width=of_folder(1536 if stated is None else stated.value, None),
        gating=2,
    )


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention of normed queries and keys, then experts."""
    return mixture_layer(a, c, n, mixer={"queries": normed_whole(a, "q"), "keys": normed_whole(a, "k")})


def one_width(counts: Counts) -> Iterator[Refused]:
    """Two widths that differ: llama.cpp asks for one of experts and takes the network's (src/models/minimax-m2.cpp)."""
    width = counts.of("expert_feed_forward_length")
    stated = counts.get("feed_forward_length")
    if width and stated not in (None, width):
        yield Refused("feed_forward_length", stated, f"for experts as wide as {width}")


MINIMAX_M2 = Architecture(
    "minimax-m2",
    gguf="minimax-m2",
    classes=("MiniMaxM2ForCausalLM", "minimax_m2"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    rope_theta=Default(apr=5e6, gguf=10000.0, huggingface=5e6),
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        reads=frozenset({"partial_rotary_factor", "rotary_dim"}),
        model_type="minimax_m2",
        defaults={  # transformers, MiniMaxM2Config
            "block_count": 62,
            "context_length": 196608,
            "embedding_length": 3072,
            "feed_forward_length": 1536,
            "attention.head_count": 48,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "vocab_size": 200064,
            "tied_embeddings": False,
        },
        spellings={
            "expert_count": "num_local_experts",
        },
        says_anyway={
            **dict.fromkeys(("layernorm_full_attention_beta", "layernorm_linear_attention_beta"), 1.0),
            **dict.fromkeys(("layernorm_linear_attention_alpha", "layernorm_mlp_beta"), 1.0),
            **dict.fromkeys(("use_routing_bias", "use_grouped_topk"), True),
            "qk_norm_type": "per_layer",
            "shared_moe_mode": "sigmoid",  # of a shared expert that it has not
        },
        names=BLOCK_SPARSE,
        parameters={
            "model.layers.{bid}.block_sparse_moe.e_score_correction_bias": "blk.{bid}.exp_probs_b.bias",
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"expert_feed_forward_length", "expert_gating_func"}),
        refuses=one_width,
    ),
)
