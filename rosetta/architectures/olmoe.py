"""OLMoE: queries and keys normed as a whole, and clamped in a folder that says so, small experts in all layers."""

from __future__ import annotations

from rosetta.architectures import Architecture, Default, HuggingFace
from rosetta.architectures.parts.builders import HIDDEN, KV_HEADS, VALUE
from rosetta.architectures.parts.expert_settings import expert_settings, of_folder
from rosetta.architectures.parts.mixtures import mixture_layer, normed_whole
from rosetta.graph import Stage
from rosetta.ops.chain import chain
from rosetta.ops.linear import Linear
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Clamp, Heads
from rosetta.settings_reader import SettingsReader

CLAMP = "attention.clamp_kqv"


def settings(read: SettingsReader) -> None:
    """The experts, whose weights are those of all in llama.cpp, and the clamp, which GGUF has no place for."""
    expert_settings(
        read, count=of_folder(64, None), used=of_folder(8, None), like_dense=True, normalised=False
    )
    read.take(CLAMP, "number", 0.0, ("clip_qkv",))


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention of normed queries and keys, then experts."""
    clamp = Clamp(CLAMP) if c[CLAMP] else None
    values = chain(Linear("attn_v", rows=(KV_HEADS, VALUE), columns=HIDDEN), clamp, Heads(KV_HEADS, VALUE))
    mixer = {
        "queries": normed_whole(a, "q", clamp),
        "keys": normed_whole(a, "k", clamp),
        "values": values,
    }
    return mixture_layer(a, c, n, mixer=mixer)


OLMOE = Architecture(
    "olmoe",
    gguf="olmoe",
    classes=("OlmoeForCausalLM",),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    settings=settings,
    layer=layer,
    huggingface=HuggingFace(
        defaults={  # transformers, OlmoeConfig
            "block_count": 16,
            "context_length": 4096,
            "embedding_length": 2048,
            "feed_forward_length": 2048,
            "attention.head_count": 16,
            "vocab_size": 50304,
            "tied_embeddings": False,
        },
        flags={"attention_bias": False},
    ),
)
