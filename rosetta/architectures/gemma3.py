"""Gemma 3: norms before and after each block and over each head, a window in five of six layers, which have a rope base
of their own and no scaling."""

from __future__ import annotations

import math

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import (
    attention,
    embedding,
    feed_forward,
    head,
    output_of,
    scores_of,
    sequential,
    windowed_rope,
)
from rosetta.architectures.parts.folder_names import NORMS_AROUND
from rosetta.architectures.parts.readings import first_of, one_more_where, standard_readings
from rosetta.graph import Stage
from rosetta.ops.op import Settings
from rosetta.ops.pointwise import Scale, Softcap
from rosetta.ops.rotary import SPLIT_HALF
from rosetta.settings_reader import SettingsReader

NORMS = (
    "attn_norm",
    "attn_q_norm",
    "attn_k_norm",
    "post_attention_norm",
    "ffn_norm",
    "post_ffw_norm",
    "output_norm",
)
LAYERS_OF_27B = 62  # llama.cpp derives the attention scale of that size from its embedding
PATTERN = "attention.sliding_window_pattern"


def settings(read: SettingsReader) -> None:
    """The base of layers with a window, the final softcap, and the factor of the embedding, which no file states."""
    of_gguf = read.container.kind == "gguf"
    layers = read.config["block_count"].value
    if of_gguf and read.raw("attention.sliding_window") is None:  # llama.cpp: then no layer has one
        read.by_layer(PATTERN, [False] * layers, "no window is stated")
    read.take("rope.freq_base_swa", "number", Default(apr=10000.0, gguf=10000.0, huggingface=10000.0))
    read.take("final_logit_softcapping", "number", Default(apr=0.0, gguf=0.0, huggingface=0.0))
    width = read.config["embedding_length"].value
    read.take("embedding_scale", "number", math.sqrt(width), note="√(embedding length)")
    if of_gguf and layers == LAYERS_OF_27B:
        scale = (width // read.config["attention.head_count"].value) ** -0.5
        read.number("attention.scale", scale, "llama.cpp, for 27B")
    elif read.container.kind == "huggingface":
        read.number("attention.scale", 256**-0.5, "default of transformers")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention with normed heads, then a gated network, each normed before and after."""
    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=windowed_rope(c, SPLIT_HALF),
            head_norm=a.head_norm,
            scores=scores_of(c),
            post_norm=a.norm_of("post_attention_norm"),
        ),
        feed_forward(norm=a.norm_of("ffn_norm"), post_norm=a.norm_of("post_ffw_norm")),
    )


GEMMA3 = Architecture(
    "gemma3",
    gguf="gemma3",
    classes=("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "gemma3_text"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    activation="gelu_tanh",
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=1e6),
    full_attention_every=6,
    settings=settings,
    readings=first_of(one_more_where(*NORMS), standard_readings),
    before=lambda a, c: embedding(Scale("embedding_scale")),
    layer=layer,
    after=lambda a, layers: head(
        output_of(layers - 1), Softcap("final_logit_softcapping"), norm=a.norm_of("output_norm")
    ),
    huggingface=HuggingFace(
        reads=frozenset({"query_pre_attn_scalar"}),
        model_type="gemma3_text",
        defaults={  # transformers, Gemma3TextConfig
            "block_count": 26,
            "context_length": 131072,
            "embedding_length": 2304,
            "feed_forward_length": 9216,
            "attention.head_count": 8,
            "attention.head_count_kv": 4,
            "attention.key_length": 256,
            "attention.sliding_window": 4096,
            "vocab_size": 262208,
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
        reads=frozenset({"final_logit_softcapping", "rope.freq_base_swa"}),
        windows="grown",
        scales_queries=True,
    ),
)
