"""The settings of mixtures of experts and of latent attention, which files state under many names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rosetta.architectures.parts.architecture import Default
from rosetta.containers.container import Setting
from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.ops.experts import LARGEST_GATING, SIGMOID, SOFTMAX, SQRT_SOFTPLUS
from rosetta.ops.latent import LATENT_EPSILON, NOPE
from rosetta.ops.rotary import SECTIONS, STILL
from rosetta.setting_values import Config, PerLayer, float32, listed
from rosetta.settings_reader import NOT_RUN, SettingsReader

SPARSE, DENSE = "sparse", "dense"

SECTIONS_OF_FOLDERS = ("rope_parameters.mrope_section", "rope_scaling.mrope_section")
GATINGS = {"softmax": SOFTMAX, "sigmoid": SIGMOID, "sqrtsoftplus": SQRT_SOFTPLUS}
"""Hugging Face's names of gating functions -> GGUF's numbers (see `ops.experts`)."""

EACH_HEADS_OWN = "each head's own"
"""What is said of the number of key/value heads where a latent gives each head its own, whatever a folder states."""


def expert_settings(
    read: SettingsReader,
    *,
    count: int | Default | None = None,
    used: int | Default | None = None,
    width: int | Default | None = None,
    like_dense: bool = False,
    gating: int | Default = 1,
    normalised: bool | Default = True,
    scale: float | Default | None = None,
) -> None:
    """How many experts there are, how many are used, how wide they are, and how they are weighed.

    Args:
        read: the reader of the container's settings.
        count, used, width: where the file does not say; None: it must.
        like_dense: whether experts are as wide as the dense network would be, and no key says how wide.
        gating: the function of the scores, likewise; what is written out counts (`scoring_func`).
        normalised: whether the weights sum to one, where the file does not say.
        scale: what the weights are multiplied with, where the file does not say; None: nothing, whatever it says.
    """
    read.take("expert_count", "count", count, ("moe_num_experts", "n_routed_experts"))
    read.take("expert_used_count", "count", used, ("moe_k", "moe_topk", "moe_top_k", "top_k_experts"))
    if not like_dense:
        read.take("expert_feed_forward_length", "count", width, ("expert_ffn_hidden_size",))
    _gating(read, gating)
    read.take("expert_weights_norm", "flag", normalised, ("route_norm", "moe_renormalize"))
    if scale is not None:
        stated = (
            "routed_scaling_factor",
            "moe_routed_scaling_factor",
            "router_scaling_factor",
            "route_scale",
            "moe_router_scaling_factor",
        )
        read.take("expert_weights_scale", "number", scale, stated)
        if not read.config["expert_weights_scale"].value and read.container.kind == "gguf":
            default = read.config["expert_weights_scale"].key
            read.put("expert_weights_scale", None, 1.0, f"llama.cpp takes the 0 of {default} for none")


def experts_of_gguf(read: SettingsReader) -> None:
    """Experts as wide as the dense network, weighed by a softmax whose chosen parts sum to one, in a GGUF that counts
    some: so llama.cpp runs several architectures of which a class of experts has another name, or none."""
    count = read.raw("expert_count")
    if read.container.kind != "huggingface" and count is not None and count.value:
        expert_settings(read, count=8, used=Default(apr=2, gguf=None, huggingface=2), like_dense=True)


def _gating(read: SettingsReader, default: int | Default) -> None:
    key = "expert_gating_func"
    if read.raw(key) is None:
        for spelling in ("scoring_func", "score_func", "score_function", "moe_router_activation_func"):
            named = read.spelled(spelling)
            if named is None:
                continue
            if named.value not in list(GATINGS):
                raise UnsupportedError(
                    f"{named.key} is {str(named.value)[:60]!r}, none of {', '.join(GATINGS)}",
                    file=read.container.path,
                    remedy=NOT_RUN,
                )
            read.put(key, Setting(GATINGS[named.value], named.key), None)
            return
    read.take(key, "count", default)
    stated = read.config[key]
    if stated.key is not None and key not in read.overrides and stated.value > LARGEST_GATING:
        raise UnsupportedError(
            f"{stated.key} is {stated.value}, a scoring of experts that is not known",
            file=read.container.path,
            remedy=NOT_RUN,
        )


def expert_groups(read: SettingsReader, count: int | Default, used: int | Default, best: int = 2) -> None:
    """Experts in groups, of which only the best may be chosen from.

    Args:
        read: the reader of the container's settings.
        count, used: of groups, where the file does not say; of one group, or none, all is chosen from.
        best: how many of its experts a group is judged by.
    """
    groups = read.take("expert_group_count", "count", count, ("n_group", "num_expert_group"))
    read.take("expert_group_used_count", "count", used, ("topk_group", "num_limited_groups"))
    read.take(
        "expert_group_best", "count", best if groups > 1 else 1, note="worked out from the architecture"
    )


def shared_expert(read: SettingsReader, count: int | Default | None, *spellings: str) -> None:
    """The width of the expert that serves all tokens, 0 where there is none: what the file says, else as many times
    that of the others as the file counts shared ones.

    Args:
        read: the reader of the container's settings.
        count: of shared experts, where the file does not say.
        spellings: keys of config.json that count them.
    """
    key = "expert_shared_feed_forward_length"
    width = read.raw(key)
    if width is not None and (width.value or read.container.kind != "gguf"):  # whose 0 says nothing
        read.take(key, "count")
        return
    each = read.config["expert_feed_forward_length"].value
    stated = read.raw("expert_shared_count") or read.spelled(*spellings)
    default = count.of(read.container.kind) if isinstance(count, Default) else count
    number = stated.value if stated is not None else default
    most = max(each) if isinstance(each, PerLayer) else each
    read.put(
        key,
        None if stated is None else Setting(number * most, stated.key),
        None if number is None else number * most,
        "of as many shared experts as the architecture has",
    )


def leading_dense(read: SettingsReader, default: int | Default, *spellings: str) -> None:
    """Which layers have experts: all but the first few, or those that the file lists as sparse.

    Args:
        read: the reader of the container's settings.
        default: how many are dense, where the file does not say.
        spellings: keys of config.json that count them.
    """
    layers = read.config["block_count"].value
    kinds, counted = read.spelled("mlp_layer_types"), read.spelled(*spellings)
    read.spelled("moe_layer_freq")  # that every layer behind the dense ones has experts
    if kinds is not None and read.container.kind != "gguf":
        expert_layers(read, [kind == SPARSE for kind in kinds.value][:layers], kinds.key)
        return
    stated = read.raw("leading_dense_block_count") or counted
    dense = default.of(read.container.kind) if isinstance(default, Default) else default
    first, key = (dense, None) if stated is None else (stated.value, stated.key)
    expert_layers(read, [layer >= first for layer in range(layers)], key)


def leading_dense_count(config: Config) -> int | None:
    """How many of the first layers have no experts."""
    if "expert_layers" not in config:
        return None
    sparse = listed(config, "expert_layers")
    return sparse.index(True) if True in sparse else len(sparse)


def shared_expert_count(config: Config) -> int | None:
    """How many experts of the others' width the shared one is."""
    shared, each = (config.get(f"expert_{part}feed_forward_length") for part in ("shared_", ""))
    if shared is None or each is None:
        return None
    width = max(each.value) if isinstance(each.value, PerLayer) else each.value
    total = max(shared.value) if isinstance(shared.value, PerLayer) else shared.value
    return int(total // width) if width and total % width == 0 else None


def expert_step(config: Config) -> int | None:
    """Every how many layers one has experts."""
    if "expert_layers" not in config:
        return None
    sparse = listed(config, "expert_layers")
    steps = range(1, len(sparse) + 1)
    return next((s for s in steps if all(on == ((n + 1) % s == 0) for n, on in enumerate(sparse))), None)


def every_so_many(on: Sequence[bool]) -> tuple[int, int]:
    """The period and offset that give these layers; of layers that no two numbers give, a period behind them all."""
    layers = range(len(on))
    pairs = ((period, offset) for period in range(1, len(on) + 1) for offset in range(period))
    found = (pair for pair in pairs if all(on[n] == (n % pair[0] == pair[1]) for n in layers))
    return next(found, (len(on) + 1, len(on)))


def layers_with_router(read: SettingsReader) -> None:
    """Which layers have experts, where a GGUF does not say so: those with a matrix that scores them."""
    layers = range(read.config["block_count"].value)
    expert_layers(read, [f"blk.{n}.ffn_gate_inp.weight" in read.container.tensors for n in layers])


def stepped_layers(read: SettingsReader) -> None:
    """Which layers have experts, as the Qwen family says it: all of every so many, less those that are listed."""
    dense, step = read.spelled("mlp_only_layers"), read.spelled("decoder_sparse_step")
    expert_layers(
        read,
        [
            layer not in (dense.value if dense else []) and (layer + 1) % (step.value if step else 1) == 0
            for layer in range(read.config["block_count"].value)
        ],
        next((said.key for said in (dense, step) if said is not None), None),
    )


def of_folder(value: Any, gguf: Any = 0) -> Default:
    """A default that transformers has, and what llama.cpp takes instead."""
    return Default(apr=value, gguf=gguf, huggingface=value)


def expert_layers(read: SettingsReader, sparse: Sequence[bool], stated: str | None = None) -> None:
    """Which layers have experts, and the file's own key that says so."""
    read.by_layer("expert_layers", sparse, "the layers with experts", stated)


def rotary_sections(
    read: SettingsReader,
    default: list[int],
    in_turns: bool = False,
    spellings: Sequence[str] = SECTIONS_OF_FOLDERS,
) -> None:
    """Which rotary pairs turn by which of three positions (time, height, width), which are one and the same of a text.

    Args:
        read: the reader of the container's settings.
        default: pairs of each, where the file does not say.
        in_turns: whether pairs of the three take turns; else those of one lie beside each other.
        spellings: keys of config.json that say it.
    """
    key = SECTIONS
    stated = read.raw(key) or read.spelled(*spellings)
    sections = default if stated is None else stated.value
    padded = (*sections, 0, 0, 0, 0)[:4] if isinstance(sections, list | tuple) else sections
    own = stated.key if stated is not None else None
    assumed = "none in the file" if read.container.kind == "gguf" else "default of transformers"
    read.by_layer(key, [padded], assumed, own)
    counts = isinstance(padded, tuple) and all(isinstance(count, int) and count >= 0 for count in padded)
    left = counts and read.container.kind == "gguf"
    pairs = read.config["rope.dimension_count"].value // 2
    read.by_layer(STILL, [_still_pairs(padded, pairs, in_turns) if left else ()], "by the sections")


def _still_pairs(sections: Sequence[int], pairs: int, in_turns: bool) -> tuple[int, ...]:
    """Rotary pairs that llama.cpp does not turn in a text: those of a fourth position, which it has at 0.

    So are the pairs 61 and 62 of Qwen3-VL's published 24, 20 and 20, whose angles are too small to show in short texts.

    Source: ggml-cpu, ops.cpp, ggml_mrope_cache_init; llama-graph.cpp, llm_graph_input_pos.
    """
    three, all_four = sum(sections[:3]), sum(sections)
    places = ((pair, pair % all_four) for pair in range(pairs if all_four > 0 else 0))
    return tuple(p for p, place in places if place >= (3 * sections[place % 3] if in_turns else three))


def stated_sections(config: Config) -> list[int] | None:
    """The sections as config.json has them: none for what a model does not tell apart."""
    sections = list(config[SECTIONS].value)
    return (sections if any(sections[3:]) else sections[:3]) if any(sections) else None


INTERLEAVED_SECTIONS = {
    "rope_parameters.mrope_section": stated_sections,
    "rope_parameters.mrope_interleaved": lambda c: True,
}
"""Keys of config.json of sections whose pairs take turns."""


def rotated_layers(
    read: SettingsReader, default: Sequence[bool], pattern: Setting | None = None, bases_count: bool = True
) -> None:
    """Which layers are rotated, and with what base, where a folder lists a base for each layer (0: it is not).

    Args:
        read: the reader of the container's settings.
        default: which are, where the file does not say.
        pattern: what a GGUF says of it.
        bases_count: whether its class takes the bases of the list, too; else its one base is that of all layers.
    """
    stated, layers = read.spelled("layer_rope_theta"), read.config["block_count"].value
    turned, key = list(default), None if pattern is None else pattern.key
    if pattern is not None and isinstance(pattern.value, list | tuple):
        turned = [bool(value) for value in pattern.value][:layers]
    if stated is not None and isinstance(stated.value, list) and read.container.kind != "gguf":
        bases = stated.value[:layers]
        turned, key = [bool(base) for base in bases], stated.key
        first = next((base for base in bases if base), read.config["rope.freq_base"].value)
        if bases_count:
            read.by_layer("rope.freq_base", [float(base or first) for base in bases], stated=stated.key)
    read.by_layer("rope.layers", turned, "the layers that are turned", key)


def bases_by_layer(c: Config) -> list[float]:
    """What a folder lists of it: the base of each layer, 0 for one that is not rotated."""
    return [
        base if on else 0
        for base, on in zip(listed(c, "rope.freq_base"), listed(c, "rope.layers"), strict=True)
    ]


def no_pattern_without_window(read: SettingsReader) -> None:
    """llama.cpp asks a GGUF which layers have a window, and so another rotation, only where it states one."""
    key, layers = "attention.sliding_window_pattern", read.config["block_count"].value
    if read.container.kind == "gguf" and not read.config["attention.sliding_window"].value:
        read.fixed(key, PerLayer([False] * layers), "no window is stated")


def refuse_base_of_windows(read: SettingsReader) -> None:
    """llama.cpp reads a base of windows of more architectures than have one."""
    stated, others = read.raw("rope.freq_base_swa"), read.config["rope.freq_base"].value
    if read.container.kind == "gguf" and stated is not None and float32(stated.value) != others:
        raise UnsupportedError(
            f"{stated.key} is {str(stated.value)[:60]}, and rosetta turns all layers of {read.architecture.name} by "
            f"one base, here {others:g}",
            file=read.container.path,
            remedy=NOT_RUN,
        )


def latent_epsilon(read: SettingsReader) -> None:
    """The epsilon of the latents' norms: transformers has it fixed, llama.cpp takes that of all norms."""
    if read.container.kind == "huggingface":
        read.fixed(LATENT_EPSILON, 1e-6, "transformers has it fixed")
    else:
        norms = read.config[read.architecture.epsilon_key].value
        read.take(LATENT_EPSILON, "number", norms, note="that of all norms")


def latent_settings(
    read: SettingsReader, *, query_rank: int | None, rank: int | None, own: int | None, value: int | None
) -> None:
    """Ranks and sizes of latent attention; GGUF also counts heads as those of the latent, of which there is one.

    Args:
        read: the reader of the container's settings.
        query_rank, rank: of queries' and of keys' and values' latents, where a folder does not say; a query rank of
            null, or none in a GGUF, means that queries have no latent.
        own: of each head's keys the part that is not rotated, where a folder does not say.
        value: size of a value, likewise.
    """
    folder = read.container.kind != "gguf"
    ranks = query_rank if folder and not read.says_null("q_lora_rank") else 0
    read.take("attention.q_lora_rank", "count", ranks, ("q_lora_rank",))
    latent = read.take("attention.kv_lora_rank", "count", rank if folder else None, ("kv_lora_rank",))
    rotated = read.config["rope.dimension_count"].value
    if folder:
        stated = read.spelled("qk_nope_head_dim")
        part = own if stated is None else stated.value
        _size(read, "attention.key_length", stated, None if part is None else part + rotated)
        stated = read.spelled("v_head_dim")
        _size(read, "attention.value_length", stated, value if stated is None else stated.value)
    else:
        split = any(name.endswith("attn_k_b.weight") for name in read.container.tensors)
        for name in ("key_length", "value_length"):  # older files have no other size than the heads' own
            stated = read.raw(f"attention.{name}_mla")
            if stated is not None:
                _size(read, f"attention.{name}", stated, stated.value)
            elif split and read.architecture.llamacpp.computes_by(f"attention.{name}_mla"):
                raise DamagedFileError(
                    f"the metadata has no {read.container.architecture}.attention.{name}_mla, which llama.cpp asks for "
                    "where keys and values have matrices of their own",
                    file=read.container.path,
                    remedy="export the model again with a complete configuration",
                )
        if read.raw("attention.key_length_mla") is not None:
            _hold_to_latent(read, "attention.key_length", latent + rotated)
            _hold_to_latent(read, "attention.head_count_kv", 1)
    heads = read.config["attention.head_count"].value
    counted = read.container.settings.get("attention.head_count_kv")
    if counted is not None and counted.value not in (heads, 1, 0) and not isinstance(counted.value, list):
        read.deny(counted)
    key_length = read.config["attention.key_length"].value
    if "attention.head_count_kv" not in read.overrides:
        read.put("attention.head_count_kv", None, read.config["attention.head_count"].value, EACH_HEADS_OWN)
    read.put(NOPE, None, key_length - rotated, "worked out from other keys")
    read.put("attention.kv_a_length", None, latent + rotated, "worked out from other keys")


def _hold_to_latent(read: SettingsReader, key: str, count: int) -> None:
    """Refuse a GGUF that llama.cpp refuses: of latent attention it asks for the one head of what is kept of a token."""
    stated = read.container.settings.get(key)
    if key in read.overrides or (
        stated is not None and (stated.value == count or isinstance(stated.value, list))
    ):
        return
    said = "missing" if stated is None else str(stated.value)[:60]
    raise DamagedFileError(
        f"{read.container.architecture}.{key} is {said}, and llama.cpp asks for {count} "
        "beside attention.key_length_mla",
        file=read.container.path,
        remedy="export the model again with a complete configuration",
    )


def _size(read: SettingsReader, key: str, stated: Setting | None, value: int | None) -> None:
    if key not in read.overrides:
        read.put(
            key, None if stated is None else Setting(value, stated.key), value, "default of transformers"
        )


def grown(factor: float, by: float) -> float:
    """YaRN's magnitude: 1 + 0.1 · by · ln(factor), 1 where nothing is stretched."""
    return 0.1 * by * math.log(factor) + 1.0 if factor > 1 else 1.0


def clamped_gate_settings(read: SettingsReader) -> None:
    """The constants of gpt-oss's gate, which GGUF has no place for."""
    for key, value in (("swiglu_alpha", 1.702), ("swiglu_limit", 7.0)):
        read.take(key, "number", value, (key,))
