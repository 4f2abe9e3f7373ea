"""Gemma 3n: gemma 3 with several streams of hidden states, a short cut of low rank beside attention, networks of which
few gates stay open, keys that are another layer's, and embeddings of each layer's own."""

from __future__ import annotations

import math
from functools import partial

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts.builders import (
    HIDDEN,
    KEY,
    KV_HEADS,
    attention,
    embedding,
    feed_forward,
    head,
    scores_of,
    windowed_rope,
)
from rosetta.architectures.parts.folder_names import NORMS_AROUND
from rosetta.architectures.parts.per_layer import (
    PER_LAYER_NAMES,
    per_layer_block,
    per_layer_embedding,
    per_layer_settings,
    shared_keys,
)
from rosetta.architectures.parts.readings import Reading, Stored, experts, standard_readings
from rosetta.architectures.parts.stated_kinds import PATTERN, SLIDING_LISTED
from rosetta.graph import Stage
from rosetta.lazily import torch
from rosetta.ops.altup import (
    ACTIVE,
    COUNT,
    AddToOthers,
    Corrected,
    MergedStreams,
    Predicted,
    SparseActivation,
    Stream,
    Streams,
    Tanh,
)
from rosetta.ops.chain import chain
from rosetta.ops.factors import Factors
from rosetta.ops.linear import Linear
from rosetta.ops.norm import Norm
from rosetta.ops.op import Op, Settings
from rosetta.ops.pointwise import Add, Scale, Softcap
from rosetta.ops.rotary import SPLIT_HALF
from rosetta.setting_values import listed
from rosetta.settings_reader import SettingsReader

# llama.cpp, models/gemma3n.cpp and models.h: fixed there, whatever the file says.
LAYERS_WITH_KEYS, SPARSE_LAYERS, SPARSE_SHARE, GGUF_SOFTCAP = 20, 10, 0.95, 30.0
MOST_STREAMS = 16  # that names are made for; published models have 4
STREAMS = {"altup_projections": "altup_proj", "altup_unembed_projections": "altup_unembd_proj"}
HALF_POWER = "altup.half_power"


def settings(read: SettingsReader) -> None:
    """Streams, sparsity, sharing, and the factors that no file states."""
    width, layers = read.config["embedding_length"].value, read.config["block_count"].value
    of_gguf, fixed = read.container.kind == "gguf", "fixed in llama.cpp"
    read.take(COUNT, "count", 4, ("altup_num_inputs",))
    read.take(ACTIVE, "count", 0, ("altup_active_idx",))
    read.take("laurel.rank", "count", 64, ("laurel_rank",))
    read.take("rope.freq_base_swa", "number", 10000.0)
    read.fixed("attention.scale", 1.0, "the architecture's")
    for key, factor in (
        ("embedding_scale", math.sqrt(width)),
        ("altup.router_scale", 1 / width),
        (HALF_POWER, 0.5**0.5),
    ):
        read.fixed(key, factor, "the architecture's")
    per_layer_settings(read, 256)
    read.fixed("activation_sparsity_of_sample", of_gguf, "fixed in each runtime")
    if of_gguf:
        read.fixed("final_logit_softcapping", GGUF_SOFTCAP, fixed)
        sparse = [_above_mean(SPARSE_SHARE) if n < SPARSE_LAYERS else 0.0 for n in range(layers)]
        read.by_layer("activation_sparsity_scale", sparse, fixed)
        shared = layers - LAYERS_WITH_KEYS
    else:
        read.take("final_logit_softcapping", "number", 30.0)
        _sparsity(read, layers)
        read.take("attention.shared_kv_layers", "count", 15, ("num_kv_shared_layers",))
        shared = read.config["attention.shared_kv_layers"].value
    pattern = read.config[PATTERN].value
    local = list(pattern) if isinstance(pattern, tuple) else [bool(pattern)] * layers
    shared_keys(read, local, layers - shared)


def _sparsity(read: SettingsReader, layers: int) -> None:
    """Standard deviations above the mean that a gate must be open to stay so, by the share that is shut."""
    stated = read.spelled("activation_sparsity_pattern")
    shares = stated.value if stated is not None else [SPARSE_SHARE] * SPARSE_LAYERS
    shares = list(shares) if isinstance(shares, list) else [shares] * layers
    scales = [_above_mean(float(share)) for share in shares[:layers]]
    scales += [0.0] * (layers - len(scales))
    read.by_layer("activation_sparsity_scale", scales, "activation_sparsity_pattern")


def _above_mean(share: float) -> float:
    """The quantile of a normal distribution, in float32's arithmetic as transformers has it; 0 where all stay open."""
    if not 0 < share < 1:
        return 0.0
    quantile: torch.Tensor = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(share))  # type: ignore[no-untyped-call]
    return float(quantile)


def _share_shut(scale: float) -> float:
    """What `_above_mean` is worked out from, to as many digits as float32 tells apart."""
    if not scale:
        return 0.0
    share: torch.Tensor = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(scale))  # type: ignore[no-untyped-call]
    return round(float(share), 6)


def routed(a: Architecture, *first: Op) -> Op:
    """How much each stream counts, of one of them: [T, A]."""
    norm = a.norm_of("altup_router_norm")
    return chain(
        *first, norm, Scale("altup.router_scale"), Linear("altup_router", rows=COUNT, columns=HIDDEN), Tanh()
    )


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """The streams are predicted; attention, short cut and network change the active one; the others are corrected."""
    x, source = _reads(n), c["attention.kv_layer"]
    values = chain(
        Linear("attn_v", rows=(KV_HEADS, KEY), columns=HIDDEN, heads=KV_HEADS), Norm(None, a.epsilon_key)
    )
    mixer = attention(
        norm=chain(Stream(), a.norm_of("attn_norm")),
        rope=windowed_rope(c, SPLIT_HALF),
        head_norm=partial(a.head_norm, optional=False),
        scores=scores_of(c),
        values=values,
        reuse=None if source == n else source,
        post_norm=a.norm_of("post_attention_norm"),
    )
    network = feed_forward(
        norm=a.norm_of("ffn_norm"), act=SparseActivation(), post_norm=a.norm_of("post_ffw_norm")
    )
    low_rank = [
        Stage("laurel_l", Linear("laurel_l", rows="laurel.rank", columns=HIDDEN), ("attn_norm",)),
        Stage("laurel_r", Linear("laurel_r", rows=HIDDEN, columns="laurel.rank"), ("laurel_l",)),
        Stage("laurel_post_norm", a.norm_of("laurel_post_norm"), ("laurel_r",)),
        Stage("laurel", Add(), ("attn_norm", "laurel_post_norm")),
    ]
    return [
        Stage("altup_router", routed(a, Stream()), (x,)),
        Stage("altup_predict_coef", Linear("altup_predict_coef", (COUNT, COUNT), COUNT), ("altup_router",)),
        Stage("altup_predicted", Predicted(), (x, "altup_predict_coef")),
        Stage("altup_active", Stream(), ("altup_predicted",)),
        *mixer("altup_predicted"),
        *low_rank,
        Stage("attn_residual", Add(), ("altup_active", "attn_post_norm")),
        Stage("attn_laurel", chain(Add(), Scale(HALF_POWER)), ("attn_residual", "laurel")),
        *network("attn_laurel"),
        Stage("ffn_residual", Add(), ("attn_laurel", "ffn_post_norm")),
        Stage("altup_correct_router", routed(a), ("ffn_residual",)),
        Stage("altup_correct_coef", Linear("altup_correct_coef", COUNT, COUNT), ("altup_correct_router",)),
        Stage("altup_corrected", Corrected(), ("altup_predicted", "ffn_residual", "altup_correct_coef")),
        Stage(
            "altup_correct_scale",
            chain(Stream(), Factors("altup_correct_scale.weight", width=HIDDEN)),
            ("altup_corrected",),
        ),
        *per_layer_block("altup_correct_scale", n, a.norm_of("post_norm")),
        Stage("residual", AddToOthers(), ("altup_corrected", "post_norm")),
    ]


def _reads(n: int) -> str:
    """What layer n reads: the streams."""
    return f"layers.{n - 1}.residual" if n else "altup_proj"


def before(a: Architecture, c: Settings) -> list[Stage]:
    """The embedding, its further streams, and the embeddings of each layer's own."""
    return [
        *embedding(Scale("embedding_scale")),
        Stage("altup_proj", Streams(), ("embedding",)),
        *per_layer_embedding("embedding", a.epsilon_key),
    ]


def after(a: Architecture, layers: int) -> list[Stage]:
    """The streams merged, the final norm, the capped logits."""
    merged = Stage("altup_unembd_proj", MergedStreams(), (_reads(layers),))
    return [merged, *head(merged.name, Softcap("final_logit_softcapping"), norm=a.norm_of("output_norm"))]


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """GGUF has the matrices of the streams in one tensor; a folder has a vector under a name without a suffix."""
    if stored.stem in STREAMS.values():
        return experts(stored)
    if stored.stem == "altup_correct_scale":
        return [Reading("altup_correct_scale.weight")]
    found = standard_readings(stored, c)
    return None if found is None else list(found)


GEMMA3N = Architecture(
    "gemma3n",
    gguf="gemma3n",
    classes=("Gemma3nForCausalLM", "Gemma3nForConditionalGeneration", "gemma3n_text"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    activation="gelu_tanh",
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=1e6),
    full_attention_every=5,
    settings=settings,
    readings=readings,
    before=before,
    layer=layer,
    after=after,
    huggingface=HuggingFace(
        model_type="gemma3n_text",
        defaults={  # transformers, Gemma3nTextConfig
            "block_count": 35,
            "context_length": 32768,
            "embedding_length": 2048,
            "feed_forward_length": 16384,
            "attention.head_count": 8,
            "attention.head_count_kv": 2,
            "attention.key_length": 256,
            "attention.sliding_window": 512,
            "vocab_size": 262400,
            "vocab_size_per_layer_input": 262144,
            "tied_embeddings": True,
        },
        spellings={
            "activation": "hidden_activation",
        },
        keys={
            "num_kv_shared_layers": lambda c: sum(
                n != of for n, of in enumerate(listed(c, "attention.kv_layer"))
            ),
            "activation_sparsity_pattern": lambda c: [
                _share_shut(z) for z in listed(c, "activation_sparsity_scale")
            ],
        },
        flags={"attention_bias": False},
        only_with={"altup_correct_scale": (True,)},
        idle=frozenset({"altup_coef_clip"}),
        names={
            **{
                f"model.{module}.{number}": f"{stem}.{number}"
                for module, stem in STREAMS.items()
                for number in range(MOST_STREAMS)
            },
            **NORMS_AROUND,
            **PER_LAYER_NAMES,
            "model.layers.{bid}.altup.correction_coefs": "blk.{bid}.altup_correct_coef",
            "model.layers.{bid}.altup.modality_router": "blk.{bid}.altup_router",
            "model.layers.{bid}.altup.prediction_coefs": "blk.{bid}.altup_predict_coef",
            "model.layers.{bid}.altup.router_norm": "blk.{bid}.altup_router_norm",
            "model.layers.{bid}.laurel.linear_left": "blk.{bid}.laurel_l",
            "model.layers.{bid}.laurel.linear_right": "blk.{bid}.laurel_r",
            "model.layers.{bid}.laurel.post_laurel_norm": "blk.{bid}.laurel_post_norm",
        },
        parameters={
            "model.layers.{bid}.altup.correct_output_scale": "blk.{bid}.altup_correct_scale",
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset({"rope.freq_base_swa"}),
        keys={
            **SLIDING_LISTED,
            "feed_forward_length": lambda c: listed(c, "feed_forward_length"),
        },
        placeholders={  # of layers that share keys and values, as transformers 5 saves none of
            "attn_k": lambda c: (c["attention.head_count_kv"] * c["attention.key_length"], c[HIDDEN]),
            "attn_v": lambda c: (c["attention.head_count_kv"] * c["attention.value_length"], c[HIDDEN]),
            "attn_k_norm": lambda c: (c["attention.key_length"],),
        },
        windows="grown",
    ),
)
