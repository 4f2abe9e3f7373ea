"""Embeddings of which each layer reads a part of its own (Gemma 3n and 4).

Letters: T = tokens, L = layers, P = width of a layer's part, H = embedding length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rosetta.architectures.parts.architecture import Default
from rosetta.containers.container import Setting
from rosetta.graph import TOKENS, Stage
from rosetta.ops.chain import chain
from rosetta.ops.linear import Linear
from rosetta.ops.lookup import Embedding
from rosetta.ops.norm import Norm
from rosetta.ops.pointwise import Add, Heads, LayerGate, Scale
from rosetta.settings_reader import SettingsReader

WIDTH, LAYERS, HIDDEN = "embedding_length_per_layer_input", "block_count", "embedding_length"
ROWS = "vocab_size_per_layer_input"  # of config.json
ROWS_SCALE, PROJECTION_SCALE, SUM_SCALE = (
    f"per_layer_embedding.{of}_scale" for of in ("rows", "projection", "sum")
)
PER_LAYER_NAMES = {
    "model.embed_tokens_per_layer": "per_layer_token_embd",
    "model.layers.{bid}.per_layer_input_gate": "blk.{bid}.inp_gate",
    "model.layers.{bid}.per_layer_projection": "blk.{bid}.proj",
    "model.layers.{bid}.post_per_layer_input_norm": "blk.{bid}.post_norm",
    "model.per_layer_model_projection": "per_layer_model_proj",
    "model.per_layer_projection_norm": "per_layer_proj_norm",
}
"""Names of modules in a folder."""


def per_layer_settings(read: SettingsReader, default: int | Default) -> None:
    """How wide the embeddings of each layer's own are, how many there are, and their factors.

    Args:
        read: the reader of the container's settings.
        default: the width, where the file does not say; 0: there are none.
    """
    part = read.take(WIDTH, "count", default, ("hidden_size_per_layer_input",))
    vocabulary = read.config["vocab_size"].value
    if read.container.kind != "gguf":
        rows = read.spelled(ROWS)
        vocabulary = (
            rows.value if rows is not None else read.architecture.huggingface.defaults.get(ROWS, vocabulary)
        )
    read.fixed("per_layer_vocab_size", vocabulary, "vocab_size_per_layer_input, or vocab_size")
    for key, factor in (
        (ROWS_SCALE, math.sqrt(part)),
        (PROJECTION_SCALE, read.config[HIDDEN].value ** -0.5),
        (SUM_SCALE, 0.5**0.5),
    ):
        read.fixed(key, factor, "the architecture's")


def shared_keys(read: SettingsReader, local: Sequence[bool], own: int) -> None:
    """Whose keys and values each layer has: its own, or those of the last layer of its kind that has some.

    Args:
        read: the reader of the container's settings.
        local: of each layer, whether it has a window.
        own: how many of the first layers have keys of their own; fewer than none are none.
    """
    own = max(min(own, len(local)), 0)
    last = {slid: n for n, slid in enumerate(local[:own])}
    stated = read.config.get("attention.shared_kv_layers")
    if stated is not None and stated.key and any(slid not in last for slid in local[own:]):
        read.deny(Setting(stated.value, stated.key))  # the class refuses it: such layers keep their own
    source = [n if n < own else last.get(slid, n) for n, slid in enumerate(local)]
    read.by_layer("attention.kv_layer", source)


def per_layer_embedding(x: str, epsilon: str, vocabulary: str = "per_layer_vocab_size") -> list[Stage]:
    """The rows of the tokens, and the normed projection of what the first layer reads, added up: [T, L, P].

    Args:
        x: what the first layer reads, [T, H].
        epsilon: config key of the norm's epsilon.
        vocabulary: config key of how many rows there are.
    """
    rows = chain(
        Embedding("per_layer_token_embd", rows=vocabulary, columns=(LAYERS, WIDTH)),
        Heads(LAYERS),
        Scale(ROWS_SCALE),
    )
    projected = chain(
        Linear("per_layer_model_proj", rows=(LAYERS, WIDTH), columns=HIDDEN, heads=LAYERS),
        Scale(PROJECTION_SCALE),
        Norm("per_layer_proj_norm", epsilon, width=(WIDTH,), kind="rms", bias=False),
    )
    return [
        Stage("per_layer_token_embd", rows, (TOKENS,)),
        Stage("per_layer_model_proj", projected, (x,)),
        Stage(
            "per_layer_embedding",
            chain(Add(), Scale(SUM_SCALE)),
            ("per_layer_model_proj", "per_layer_token_embd"),
        ),
    ]


def per_layer_block(x: str, n: int, norm: Norm) -> list[Stage]:
    """What a layer makes of its part: gated by what it reads, projected back and normed.

    Args:
        x: what is read.
        n: number of the layer.
        norm: of the result.
    """
    return [
        Stage("inp_gate", Linear("inp_gate", rows=WIDTH, columns=HIDDEN), (x,)),
        Stage("per_layer_gated", LayerGate(layer=n), ("inp_gate", "per_layer_embedding")),
        Stage("proj", Linear("proj", rows=HIDDEN, columns=WIDTH), ("per_layer_gated",)),
        Stage("post_norm", norm, ("proj",)),
    ]
