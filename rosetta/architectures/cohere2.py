"""Command R7B (Cohere 2): attention and network side by side behind one norm, a window and rotary in three of four
layers, logits times a factor."""

from __future__ import annotations

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.command_r import settings
from rosetta.architectures.parts import factors
from rosetta.architectures.parts.builders import (
    attention,
    feed_forward,
    head,
    output_of,
    parallel,
    scores_of,
)
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Scale
from rosetta.ops.rotary import Rotary


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Both blocks read the same norm; only layers with a window rotate."""
    return parallel(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=Rotary(INTERLEAVED, where="attention.sliding_window_pattern"),
            scores=scores_of(c),
        ),
        feed_forward(norm=None),
    )


COHERE2 = Architecture(
    "cohere2",
    gguf="cohere2",
    classes=("Cohere2ForCausalLM",),
    norm="layer",
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=INTERLEAVED,
    full_attention_every=4,
    settings=settings,
    layer=layer,
    after=lambda a, layers: head(output_of(layers - 1), Scale("logit_scale"), norm=a.norm_of("output_norm")),
    huggingface=HuggingFace(
        defaults={  # transformers, Cohere2Config
            "block_count": 40,
            "context_length": 8192,
            "embedding_length": 8192,
            "feed_forward_length": 22528,
            "attention.head_count": 64,
            "attention.head_count_kv": 64,
            "attention.sliding_window": 4096,
            "vocab_size": 256000,
            "tied_embeddings": True,
        },
        spellings={
            "attention.layer_norm_epsilon": "layer_norm_eps",
            "logit_scale": "logit_scale",
        },
        flags={"attention_bias": False},
        rope=INTERLEAVED,
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"logit_scale", "rope.freq_base_swa"}),
        factors=factors.ATTENTION | factors.NETWORK,
        windows="stretched",
    ),
)
