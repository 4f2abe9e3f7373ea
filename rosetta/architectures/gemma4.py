"""Gemma 4: gemma 3 with heads of another size in the layers that see all tokens, keys that serve as values or are
another layer's, embeddings of each layer's own (E2B, E4B), or experts beside the dense network (26B)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from rosetta.architectures import Architecture, Default, HuggingFace, LlamaCpp
from rosetta.architectures.parts import factors
from rosetta.architectures.parts.builders import (
    HIDDEN,
    KEY,
    KV_HEADS,
    attention,
    embedding,
    feed_forward,
    head,
    output_of,
    scores_of,
    slides,
)
from rosetta.architectures.parts.folder_names import NORMS_AROUND
from rosetta.architectures.parts.per_layer import (
    PER_LAYER_NAMES,
    WIDTH,
    per_layer_block,
    per_layer_embedding,
    per_layer_settings,
    shared_keys,
)
from rosetta.architectures.parts.readings import Reading, Stored, standard_readings
from rosetta.graph import Stage
from rosetta.ops.chain import chain
from rosetta.ops.experts import ExpertLinear, ExpertSum, Router
from rosetta.ops.factors import Factors
from rosetta.ops.linear import Linear
from rosetta.ops.norm import Norm
from rosetta.ops.op import Op, Settings
from rosetta.ops.pointwise import Activation, Add, Scale, Softcap
from rosetta.ops.rotary import SPLIT_HALF, Rotary
from rosetta.rope_scaling import scaling_from_parameters
from rosetta.setting_values import Config, listed
from rosetta.settings_reader import SettingsReader

PATTERN, DERIVED = "attention.sliding_window_pattern", "worked out from other keys"
# transformers, Gemma4TextConfig.
GLOBAL_HEAD = 512
GLOBAL_ROPE = {"rope_type": "proportional", "partial_rotary_factor": 0.25}


def settings(read: SettingsReader) -> None:
    """What each layer has of its own, and the factors that no file states."""
    config = {key: value.value for key, value in read.config.items()}
    layers, width = config["block_count"], config["embedding_length"]
    of_folder = read.container.kind != "gguf"
    stated = config.get(PATTERN, True)
    local = [bool(flag) for flag in (stated if isinstance(stated, tuple) else [stated] * layers)]
    if of_folder:
        local[-1] = False  # transformers has the last one see all
        read.by_layer(PATTERN, local)
        _heads_of_folder(read, local, layers)
    else:
        _heads_of_gguf(read, local)
    read.take("rope.freq_base_swa", "number", 10000.0)
    read.fixed("attention.scale", 1.0, "the architecture's")
    read.take("final_logit_softcapping", "number", Default(apr=30.0, gguf=30.0, huggingface=0.0))
    read.fixed("embedding_scale", math.sqrt(width), "√(embedding length)")
    shared_keys(read, local, layers - _shared_layers(read))
    per_layer_settings(
        read, Default(apr=0, gguf=None, huggingface=read.architecture.huggingface.defaults[WIDTH])
    )
    _experts(read, width)


def _heads_of_folder(read: SettingsReader, local: list[bool], layers: int) -> None:
    """Sizes and numbers of heads, and the rotation, as the config says them: for each layer, or for all that see
    everything."""
    config, own = read.config, read.spelled("per_layer_config")
    size, kv_heads = (read.size(key) for key in ("attention.key_length", "attention.head_count_kv"))
    spelled = {key: read.spelled(key) for key in ("global_head_dim", "num_global_key_value_heads")}
    large, few = (setting.value if setting is not None else None for setting in spelled.values())
    shared = read.spelled("attention_k_eq_v")
    few = few if shared is not None and shared.value else None
    tables = {int(n): table for n, table in own.value.items()} if own is not None else None

    def of(layer: int, key: str, otherwise: int, globally: int | None) -> int:
        if tables is not None:
            return int(tables.get(layer, {}).get(key, otherwise))
        return otherwise if local[layer] or globally is None else globally

    sizes = [of(n, "head_dim", size, large or GLOBAL_HEAD) for n in range(layers)]
    said = own or spelled["global_head_dim"]
    for key in ("attention.key_length", "attention.value_length"):
        read.by_layer(key, sizes, stated=said.key if said is not None else config[key].key)
    counts = [of(n, "num_key_value_heads", kv_heads, few) for n in range(layers)]
    said = own or spelled["num_global_key_value_heads"]
    stated_by = said.key if said is not None else config["attention.head_count_kv"].key
    read.by_layer("attention.head_count_kv", counts, stated=stated_by)
    kinds = list(zip(listed(read.config, "attention.key_length"), local, strict=True))
    whole = next((own_size for own_size, slid in kinds if not slid), size)
    read.fixed("rope.dimension_count", whole, "the key length")
    part = next((own_size for own_size, slid in kinds if slid), size)
    read.fixed("rope.dimension_count_swa", part, "the key length")
    shares = shared is not None and bool(shared.value)
    read.by_layer(
        "attention.keys_are_values",
        [shares and not slid for slid in local],
        stated=shared.key if shared is not None else None,
    )
    # The last may name no rule.
    rules = (read.raw("rope.scaling"), read.spelled("rope_parameters.full_attention"))
    tables_of_rope = (said.value for said in rules if said is not None and isinstance(said.value, Mapping))
    table = next(tables_of_rope, GLOBAL_ROPE)
    theta, context = config["rope.freq_base"].value, config["context_length"].value
    read.fixed(
        "rope.scaling", scaling_from_parameters(table, whole // 2, theta, context), "the config's rule"
    )
    kept, doubled = layers - _shared_layers(read), read.spelled("use_double_wide_mlp")
    ffn = config["feed_forward_length"]
    if "feed_forward_length" not in read.overrides:
        much = 2 if doubled is not None and doubled.value else 1
        widths = [ffn.value if n < kept else much * ffn.value for n in range(layers)]
        read.by_layer("feed_forward_length", widths, stated=ffn.key)


def _of_window_layers(config: Config, key: str) -> int:
    """The size that the class takes one number for: that of the layers with a window."""
    sizes, slides = listed(config, key), listed(config, PATTERN)
    return int(next((size for size, slid in zip(sizes, slides, strict=True) if slid), sizes[0]))


def _heads_of_gguf(read: SettingsReader, local: list[bool]) -> None:
    """The same out of a GGUF file's keys, one for each kind of layer."""
    for key in ("attention.key_length", "attention.value_length"):
        whole = read.config[key].value
        windowed = read.raw(f"{key}_swa")
        part = windowed.value if windowed is not None else whole
        read.by_layer(key, [part if slid else whole for slid in local], f"{key} and {key}_swa")
    last = read.config["attention.key_length"].value
    part = (
        max((size for size, slid in zip(last, local, strict=True) if slid), default=0)
        if isinstance(last, tuple)
        else last
    )
    read.take("rope.dimension_count_swa", "count", part, note="the key length")
    names = read.container.tensors
    fused = [f"blk.{n}.attn_qkv.weight" in names for n in range(len(local))]
    stored = [f"blk.{n}.attn_v.weight" in names or fused[n] for n in range(len(local))]
    keyed = [f"blk.{n}.attn_k.weight" in names for n in range(len(local))]
    read.by_layer("attention.keys_are_values", [k and not v for k, v in zip(keyed, stored, strict=True)])


def _shared_layers(read: SettingsReader) -> int:
    """How many of the last layers have no keys of their own."""
    read.take("attention.shared_kv_layers", "count", 0, ("num_kv_shared_layers",))
    return int(read.config["attention.shared_kv_layers"].value)


def _experts(read: SettingsReader, width: int) -> None:
    """The experts beside the dense network, where there are any."""
    enabled = read.spelled("enable_moe_block")
    off = read.container.kind == "huggingface" and not (enabled is not None and enabled.value)
    if off:
        read.by_layer(
            "expert_count", [0], "enable_moe_block is off", enabled.key if enabled is not None else None
        )
    else:
        read.take("expert_count", "count", 0)
        if enabled is not None and not read.config["expert_count"].value:
            read.deny(enabled)
    if read.config["expert_count"].value:  # a repair's, where the file has them off
        read.take("expert_used_count", "count", None, ("top_k_experts",))
        read.take("expert_feed_forward_length", "count", None)
        read.fixed("router_scale", width**-0.5, "the architecture's")


def layer(a: Architecture, c: Settings, n: int) -> list[Stage]:
    """Attention with normed heads, then a gated network (or that and experts), each normed before and after; then the
    layer's own embedding, and its factor."""
    head_norm = partial(a.head_norm, optional=False)
    # What serves as values is the product with attn_v, or with attn_k where there is none; normed without weights.
    stem = "attn_k" if c["attention.keys_are_values"] else "attn_v"
    values = chain(
        Linear(stem, rows=(KV_HEADS, KEY), columns=HIDDEN, heads=KV_HEADS),
        Norm(None, a.epsilon_key, kind="rms"),
    )
    local = Rotary(SPLIT_HALF, "rope.dimension_count_swa", "rope.freq_base_swa", None)
    source = c["attention.kv_layer"]
    x = output_of(n - 1)
    first = attention(
        norm=a.norm_of("attn_norm"),
        rope=local if slides(c) else Rotary(SPLIT_HALF),
        head_norm=head_norm,
        scores=scores_of(c),
        values=values,
        reuse=None if source == n else source,
        post_norm=a.norm_of("post_attention_norm"),
    )(x)
    network = _with_experts(a) if c["expert_count"] else _dense(a)
    summed = ("attn_residual", "ffn_post_norm")
    stages = [*first, Stage("attn_residual", Add(), (x, first[-1].name)), *network]
    if c[WIDTH]:
        stages.append(Stage("ffn_residual", Add(), summed))
        stages += per_layer_block("ffn_residual", n, a.norm_of("post_norm"))
        summed = ("ffn_residual", "post_norm")
    factor = Factors("layer_output_scale.weight", width=1)
    return [*stages, Stage("residual", chain(Add(), factor), summed)]


def _dense(a: Architecture) -> list[Stage]:
    return feed_forward(norm=a.norm_of("ffn_norm"), post_norm=a.norm_of("post_ffw_norm"))("attn_residual")


def _with_experts(a: Architecture) -> list[Stage]:
    """The dense network and the experts side by side, each with a norm before and after, and one after their sum."""
    router, x, width = Router(), "attn_residual", "expert_feed_forward_length"
    scored: Op = chain(
        Norm(None, a.epsilon_key), Scale("router_scale"), Factors("ffn_gate_inp.scale", width=HIDDEN)
    )
    dense = [
        Stage(
            f"ffn_dense_{part}",
            Linear(f"ffn_{part}", rows="feed_forward_length", columns=HIDDEN),
            ("ffn_norm",),
        )
        for part in ("gate", "up")
    ]
    mixed = [
        Stage(f"ffn_{part}", ExpertLinear(f"ffn_{part}_exps", router, rows=width, columns=HIDDEN), seen)
        for part in ("gate", "up")
        for seen in [("pre_ffw_norm_2", "ffn_router")]
    ]
    down = Linear("ffn_down", rows=HIDDEN, columns="feed_forward_length")
    return [
        Stage("ffn_norm", a.norm_of("ffn_norm"), (x,)),
        *dense,
        Stage("ffn_dense_act", Activation(), ("ffn_dense_gate", "ffn_dense_up")),
        Stage("ffn_dense", down, ("ffn_dense_act",)),
        Stage("post_ffw_norm_1", a.norm_of("post_ffw_norm_1"), ("ffn_dense",)),
        Stage("ffn_router_norm", scored, (x,)),
        Stage("ffn_router", router, ("ffn_router_norm",)),
        Stage("pre_ffw_norm_2", a.norm_of("pre_ffw_norm_2"), (x,)),
        *mixed,
        Stage("ffn_act", Activation(), ("ffn_gate", "ffn_up")),
        Stage(
            "ffn_out",
            ExpertSum("ffn_down_exps", router, rows=HIDDEN, columns=width, scale="ffn_down_exps.scale"),
            ("ffn_act", "ffn_router"),
        ),
        Stage("post_ffw_norm_2", a.norm_of("post_ffw_norm_2"), ("ffn_out",)),
        Stage(
            "ffn_post_norm",
            chain(Add(), a.norm_of("post_ffw_norm")),
            ("post_ffw_norm_1", "post_ffw_norm_2"),
        ),
    ]


def before(a: Architecture, c: Settings) -> list[Stage]:
    """The embedding, and those of each layer's own."""
    own = per_layer_embedding("embedding", a.epsilon_key) if c[WIDTH] else []
    return [*embedding(Scale("embedding_scale")), *own]


def readings(stored: Stored, c: Settings) -> list[Reading] | None:
    """A folder has the experts' matrices under names without a suffix, gate and up in one; so has GGUF these two."""
    if stored.stem == "layer_output_scale":
        return [Reading("layer_output_scale.weight")]
    found = standard_readings(stored, c)
    return None if found is None else list(found)


GEMMA4 = Architecture(
    "gemma4",
    gguf="gemma4",
    classes=("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration", "gemma4_text"),
    norm_epsilon=Default(apr=1e-6, gguf=1e-6, huggingface=1e-6),
    activation="gelu_tanh",
    rope_theta=Default(apr=1e6, gguf=10000.0, huggingface=1e6),
    full_attention_every=6,
    settings=settings,
    readings=readings,
    before=before,
    layer=layer,
    after=lambda a, layers: head(
        output_of(layers - 1), Softcap("final_logit_softcapping"), norm=a.norm_of("output_norm")
    ),
    huggingface=HuggingFace(
        reads=frozenset({"partial_rotary_factor"}),
        model_type="gemma4_text",
        defaults={  # transformers, Gemma4TextConfig
            "block_count": 30,
            "context_length": 131072,
            "embedding_length": 2304,
            "feed_forward_length": 9216,
            "attention.head_count": 8,
            "attention.head_count_kv": 4,
            "attention.key_length": 256,
            "attention.sliding_window": 512,
            WIDTH: 256,
            "vocab_size": 262144,
            "tied_embeddings": True,
        },
        spellings={
            "activation": "hidden_activation",
            "expert_used_count": "top_k_experts",
        },
        keys={
            "hidden_size_per_layer_input": lambda c: c["embedding_length_per_layer_input"].value,
            "num_key_value_heads": lambda c: _of_window_layers(c, "attention.head_count_kv"),
        },
        flags={"attention_bias": False},
        only_with={"use_bidirectional_attention": (False, "vision")},
        names={
            **NORMS_AROUND,
            **PER_LAYER_NAMES,
            "model.layers.{bid}.post_feedforward_layernorm_1": "blk.{bid}.post_ffw_norm_1",
            "model.layers.{bid}.post_feedforward_layernorm_2": "blk.{bid}.post_ffw_norm_2",
            "model.layers.{bid}.pre_feedforward_layernorm_2": "blk.{bid}.pre_ffw_norm_2",
            "model.layers.{bid}.router.proj": "blk.{bid}.ffn_gate_inp",
        },
        parameters={
            "model.layers.{bid}.layer_scalar": "blk.{bid}.layer_output_scale",
            "model.layers.{bid}.experts.down_proj": "blk.{bid}.ffn_down_exps",
            "model.layers.{bid}.experts.gate_up_proj": "blk.{bid}.ffn_gate_up_exps",
            "model.layers.{bid}.router.per_expert_scale": "blk.{bid}.ffn_down_exps.scale",
            "model.layers.{bid}.router.scale": "blk.{bid}.ffn_gate_inp.scale",
        },
    ),
    llamacpp=LlamaCpp(
        reads=frozenset(
            {
                "attention.shared_kv_layers",
                "embedding_length_per_layer_input",
                "expert_feed_forward_length",
                "final_logit_softcapping",
                "rope.freq_base_swa",
            }
        ),
        keys={
            PATTERN: lambda c: listed(c, PATTERN),
            "attention.shared_kv_layers": lambda c: c["attention.shared_kv_layers"].value,
            "embedding_length_per_layer_input": lambda c: c["embedding_length_per_layer_input"].value,
        },
        factors=factors.ATTENTION | factors.NETWORK | factors.EXPERTS,
        windows="grown",
    ),
)
GEMMA4_UNIFIED = replace(
    GEMMA4,
    name="gemma4_unified",
    classes=("Gemma4UnifiedForConditionalGeneration", "gemma4_unified", "gemma4_unified_text"),
    text_part="gemma4",
    huggingface=replace(
        GEMMA4.huggingface,
        model_type="gemma4_unified",
        defaults={  # transformers, Gemma4UnifiedTextConfig
            **GEMMA4.huggingface.defaults,
            "context_length": 262144,
            "attention.sliding_window": 1024,
            WIDTH: 0,
        },
    ),
)
