"""OLMo 1: llama with LayerNorms that have no weights, and q, k and v clamped in the 7B."""

from __future__ import annotations

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import attention, feed_forward, head, output_of, sequential
from rosetta.graph import Stage
from rosetta.ops.norm import Norm
from rosetta.ops.op import Settings
from rosetta.ops.rotary import Rotary
from rosetta.settings_reader import SettingsReader


def settings(read: SettingsReader) -> None:
    """Where q, k and v are clamped; 0: nowhere."""
    read.take("attention.clamp_kqv", "number", 0.0, ("clip_qkv",), note="not clamped")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """A layer of the llama family, its norms without weights."""
    norm = Norm(None, a.epsilon_key)
    return sequential(
        output_of(n - 1),
        attention(norm=norm, rope=Rotary(INTERLEAVED), clamp="attention.clamp_kqv"),
        feed_forward(norm=norm),
    )


OLMO = Architecture(
    "olmo",
    gguf="olmo",
    classes=("OlmoForCausalLM",),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=INTERLEAVED,
    settings=settings,
    layer=layer,
    after=lambda a, layers: head(output_of(layers - 1), norm=Norm(None, a.epsilon_key)),
    huggingface=HuggingFace(
        unread=frozenset({"attention.layer_norm_epsilon"}),  # OlmoLayerNorm has its own
        defaults={  # transformers, OlmoConfig
            "block_count": 32,
            "context_length": 2048,
            "embedding_length": 4096,
            "feed_forward_length": 11008,
            "attention.head_count": 32,
            "attention.head_count_kv": 32,
            "vocab_size": 50304,
            "tied_embeddings": False,
        },
        flags={"attention_bias": False},
    ),
    llamacpp=LlamaCpp(reads=frozenset({"attention.clamp_kqv"})),
)
