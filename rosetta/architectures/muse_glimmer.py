"""The text part of Muse Glimmer: a normed embedding, queries and keys normed without weights, a window and rotary in
three of four layers, gated attention, norms before and after each block, capped logits."""

from __future__ import annotations

import math

from rosetta.architectures import INTERLEAVED, Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import (
    HEADS,
    HIDDEN,
    KEY,
    KV_HEADS,
    attention,
    embedding,
    feed_forward,
    head,
    output_of,
    scores_of,
    sequential,
)
from rosetta.architectures.parts.expert_settings import bases_by_layer, of_folder, rotated_layers
from rosetta.architectures.parts.folder_names import NORMS_AROUND
from rosetta.architectures.parts.readings import first_of, one_more_where, standard_readings
from rosetta.architectures.parts.stated_kinds import PATTERN, window_kinds
from rosetta.graph import Stage
from rosetta.ops.chain import chain
from rosetta.ops.linear import Linear
from rosetta.ops.norm import FactorNorm, Norm
from rosetta.ops.op import Op, Settings
from rosetta.ops.pointwise import Gate, Scale, Softcap
from rosetta.ops.rotary import Rotary
from rosetta.setting_values import PerLayer
from rosetta.settings_reader import SettingsReader

STEP = 4  # of so many layers, counted from the last, one sees all and is not rotated
QUERIES = "attention.query_scale"
POST_EPSILON = "attention.post_norm_epsilon"
NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")


def settings(read: SettingsReader) -> None:
    """The factors of queries and logits, the epsilon of the norms after the blocks, which layers are rotated."""
    folder, layers = read.container.kind != "gguf", range(read.config["block_count"].value)
    if read.raw(PATTERN) is None and folder and read.config["attention.sliding_window"].value:
        read.by_layer(PATTERN, [(len(layers) - 1 - n) % STEP != 0 for n in layers], "the layers that slide")
    read.take("final_logit_softcapping", "number", of_folder(20.0, 30.0))
    default = of_folder(1 / math.sqrt(26), None)
    read.take("logit_scale", "number", default, ("output_multiplier",))
    if folder:
        read.take(POST_EPSILON, "number", 1e-8, ("post_norm_eps",))
        read.take(QUERIES, "number", 3.87, ("qk_scale_factor",))
    else:  # llama.cpp, models/muse-glimmer.cpp
        read.fixed(POST_EPSILON, 1e-8, "llama.cpp has it fixed")
        read.fixed(QUERIES, 1.0, "in attn_q_norm")
    slides = read.config[PATTERN].value
    turned = list(slides) if isinstance(slides, PerLayer) else [slides] * len(layers)
    if folder and read.spelled("layer_rope_theta") is None:
        turned = [(len(layers) - 1 - n) % STEP != 0 for n in layers]
    rotated_layers(read, turned, bases_count=False)  # transformers, MuseGlimmerTextModel


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Gated attention and a gated network, each normed before and after."""

    def normed(part: str, heads: str, factor: str | None) -> Op:
        product = Linear(f"attn_{part}", rows=(heads, KEY), columns=HIDDEN, heads=heads)
        stem = f"attn_{part}_norm"
        return chain(product, FactorNorm(stem, a.epsilon_key, (KEY,), "rms", bias=False, factor=factor))

    def post(stem: str) -> Norm:
        return Norm(stem, POST_EPSILON, kind="rms")

    return sequential(
        output_of(n - 1),
        attention(
            norm=a.norm_of("attn_norm"),
            rope=Rotary(INTERLEAVED, where="rope.layers"),
            queries=normed("q", HEADS, QUERIES),
            keys=normed("k", KV_HEADS, None),
            scores=scores_of(c),
            gate=Gate(),
            post_norm=post("post_attention_norm"),
        ),
        feed_forward(norm=a.norm_of("ffn_norm"), post_norm=post("post_ffw_norm")),
    )


MUSE_GLIMMER = Architecture(
    "muse-glimmer",
    gguf="muse-glimmer",
    classes=("MuseGlimmerForConditionalGeneration", "muse_glimmer", "muse_glimmer_text"),
    norm_epsilon=Default(apr=1e-5, gguf=1e-5, huggingface=1e-5),
    rope=INTERLEAVED,
    full_attention_every=STEP,
    settings=settings,
    readings=first_of(one_more_where(*NORMS), standard_readings),
    before=lambda a, c: embedding(Norm(None, a.epsilon_key, kind="rms")),
    layer=layer,
    after=lambda a, layers: head(
        output_of(layers - 1),
        Scale("logit_scale"),
        Softcap("final_logit_softcapping"),
        norm=a.norm_of("output_norm"),
    ),
    huggingface=HuggingFace(
        model_type="muse_glimmer",
        defaults={  # transformers, MuseGlimmerTextConfig
            "block_count": 52,
            "context_length": 131072,
            "embedding_length": 6656,
            "feed_forward_length": 19968,
            "attention.head_count": 32,
            "attention.head_count_kv": 2,
            "attention.key_length": 128,
            "attention.sliding_window": 2048,
            "vocab_size": 202048,
            "tied_embeddings": False,
        },
        spellings={
            "activation": "hidden_activation",
            "logit_scale": "output_multiplier",
            QUERIES: "qk_scale_factor",
            POST_EPSILON: "post_norm_eps",
        },
        keys={
            "layer_rope_theta": bases_by_layer,
            "layer_types": window_kinds,
        },
        flags={"attention_bias": False},
        senses={"vision_config": {"num_hidden_layers": 0}},
        text_names="model.language_model.",
        names={
            **NORMS_AROUND,
            "model.layers.{bid}.self_attn.gate_proj": "blk.{bid}.attn_gate",
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"final_logit_softcapping", "logit_scale", "rope.freq_base_swa"}),
        vectors={  # llama.cpp's graph norms with weights (conversion/muse_glimmer.py)
            "attn_q_norm": (QUERIES, lambda c: [c[QUERIES].value] * c[KEY].value),
            "attn_k_norm": (QUERIES, lambda c: [1.0] * c[KEY].value),
        },
    ),
)
