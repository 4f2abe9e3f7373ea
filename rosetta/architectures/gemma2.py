"""Gemma 2: norms before and after each block, a window in every other layer, softcaps on scores and logits."""

from __future__ import annotations

import math

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import (
    attention,
    base_of,
    base_of_windows,
    embedding,
    feed_forward,
    head,
    output_of,
    scores_of,
    sequential,
)
from rosetta.architectures.parts.folder_names import NORMS_AROUND
from rosetta.architectures.parts.readings import first_of, one_more_where, standard_readings
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Scale, Softcap
from rosetta.ops.rotary import SPLIT_HALF, Rotary
from rosetta.settings_reader import SettingsReader

NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "output_norm")
LAYERS_OF_27B = 46  # llama.cpp derives the attention scale of that size from its embedding


def settings(read: SettingsReader) -> None:
    """Softcaps, and the factor of the embedding, which no file states."""
    capped = Default(apr=50.0, gguf=50.0, huggingface=50.0)
    for key, default in (("attn_logit_softcapping", capped), ("final_logit_softcapping", 30.0)):
        read.take(key, "number", 0.0 if read.says_null(key) else default)
    read.take(
        "embedding_scale",
        "number",
        math.sqrt(read.config["embedding_length"].value),
        note="√(embedding length)",
    )
    base_of_windows(read)
    if read.container.kind == "gguf" and read.config["block_count"].value == LAYERS_OF_27B:
        heads = read.config["attention.head_count"].value
        read.number(
            "attention.scale", math.sqrt(heads / read.config["embedding_length"].value), "llama.cpp, for 27B"
        )
    elif read.container.kind == "huggingface":
        read.number("attention.scale", 256**-0.5, "default of transformers")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention with softcapped scores, then a gated network, each normed before and after."""
    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=Rotary(SPLIT_HALF, base=base_of(c)),
            scores=scores_of(c, softcap="attn_logit_softcapping"),
            post_norm=a.norm_of("post_attention_norm"),
        ),
        feed_forward(norm=a.norm_of("ffn_norm"), post_norm=a.norm_of("post_ffw_norm")),
    )


GEMMA2 = Architecture(
    "gemma2",
    gguf="gemma2",
    classes=("Gemma2ForCausalLM",),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    activation="gelu_tanh",
    full_attention_every=2,
    settings=settings,
    readings=first_of(one_more_where(*NORMS), standard_readings),
    before=lambda a, c: embedding(Scale("embedding_scale")),
    layer=layer,
    after=lambda a, layers: head(
        output_of(layers - 1), Softcap("final_logit_softcapping"), norm=a.norm_of("output_norm")
    ),
    huggingface=HuggingFace(
        reads=frozenset({"query_pre_attn_scalar"}),
        defaults={  # transformers, Gemma2Config
            "block_count": 26,
            "context_length": 8192,
            "embedding_length": 2304,
            "feed_forward_length": 9216,
            "attention.head_count": 8,
            "attention.head_count_kv": 4,
            "attention.key_length": 256,
            "attention.sliding_window": 4096,
            "vocab_size": 256000,
            "tied_embeddings": True,
        },
        spellings={
            "activation": "hidden_activation",
        },
        flags={"attention_bias": False},
        only_with={"use_bidirectional_attention": (False,)},
        names=NORMS_AROUND,
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"attn_logit_softcapping", "final_logit_softcapping", "rope.freq_base_swa"}),
        windows="stretched",
        scales_queries=True,
    ),
)
