"""Configuration keys of `.apr` and Hugging Face files under their GGUF names, each value held to its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosetta.containers.container import Setting
from rosetta.containers.values import (
    BEYOND_COUNTING,
    COUNT,
    COUNTS,
    FLAG,
    LAYERS,
    NUMBER,
    NUMBERS,
    TABLE,
    TEXT,
    TEXTS,
    WRONG_VALUE,
    Kind,
)
from rosetta.errors import DamagedFileError


@dataclass(frozen=True)
class Fact:
    """One configuration fact.

    Args:
        key: its GGUF key without the architecture, or a name of that style where GGUF has none.
        kind: what it may hold.
        spellings: the file's keys for it, in order of trust.
    """

    key: str
    kind: Kind
    spellings: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A table of keys inside a file: its top level, or a part of it.

    Args:
        values: the keys and values.
        prefix: what stands before a key in a message: `text_config.`.
    """

    values: Mapping[str, Any]
    prefix: str = ""


FORWARD_FACTS: tuple[Fact, ...] = (
    Fact("activation", TEXT, ("hidden_act", "hidden_activation", "activation_function")),
    Fact("tied_embeddings", FLAG, ("tie_word_embeddings", "tied_embeddings")),
    Fact("norm.type", TEXT, ("norm_type", "normalization_type")),
    Fact("rope.partial_rotary_factor", NUMBER, ("partial_rotary_factor", "rotary_pct", "rope_pct")),
    Fact("rope.dimension_count", COUNT, ("rotary_dim", "qk_rope_head_dim")),
    Fact("attention.scale", NUMBER, ("attention_multiplier", "attention_scale")),
    Fact("attention.scale_by_inverse_layer", FLAG, ("scale_attn_by_inverse_layer_idx",)),
    Fact("attn_logit_softcapping", NUMBER, ("attn_logit_softcapping",)),
    Fact("final_logit_softcapping", NUMBER, ("final_logit_softcapping",)),
    Fact("embedding_scale", NUMBER, ("embedding_multiplier",)),
    Fact("residual_scale", NUMBER, ("residual_multiplier",)),
    Fact("logit_scale", NUMBER, ("logits_scaling", "logit_scale")),
    Fact("use_parallel_residual", FLAG, ("use_parallel_residual",)),
    Fact("expert_count", COUNT, ("num_experts", "num_local_experts", "n_routed_experts")),
    Fact("expert_used_count", COUNTS, ("num_experts_per_tok", "num_experts_per_token")),
    Fact("expert_feed_forward_length", COUNTS, ("moe_intermediate_size",)),
    Fact("expert_shared_feed_forward_length", COUNT, ("shared_expert_intermediate_size",)),
    Fact("expert_weights_norm", FLAG, ("norm_topk_prob",)),
)
"""What the forward pass depends on and is spelled as Hugging Face does in either container."""

GGUF_KINDS: dict[str, Kind] = {
    **{fact.key: fact.kind for fact in FORWARD_FACTS},
    **dict.fromkeys(("block_count", "embedding_length", "context_length", "vocab_size"), COUNT),
    **dict.fromkeys(("attention.key_length", "attention.value_length"), COUNT),
    **dict.fromkeys(("feed_forward_length", "attention.head_count", "attention.head_count_kv"), COUNTS),
    **dict.fromkeys(("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon"), NUMBER),
    **dict.fromkeys(("rope.freq_base", "rope.scaling.factor", "rope.scaling.attn_factor"), NUMBER),
    **dict.fromkeys(("expert_used_count", "expert_feed_forward_length", "rope.dimension_count"), COUNTS),
    **dict.fromkeys(("rope.scaling.original_context_length",), COUNT),
    **dict.fromkeys(("rope.scaling.type",), TEXT),
    **dict.fromkeys(("rope.freq_base_swa",), NUMBERS),
    **dict.fromkeys(("attention.sliding_window_pattern",), LAYERS),
}
"""What a GGUF key may hold, for the keys that are relied upon; a list has a value for each layer."""


def gathered(path: Path, facts: Iterable[Fact], sources: Iterable[Source]) -> dict[str, Setting]:
    """The facts that the file states; null is absent, and the first source that has a fact wins.

    Raises:
        DamagedFileError: a value is not of its kind.
    """
    sources = tuple(sources)
    found: dict[str, Setting] = {}
    for fact in facts:
        for source in sources:
            spelling = next((key for key in fact.spellings if source.values.get(key) is not None), None)
            if spelling is not None:
                name = source.prefix + spelling
                found[fact.key] = Setting(held(path, name, source.values[spelling], fact.kind), name)
                break
    return found


def held(path: Path, name: str, value: Any, kind: Kind) -> Any:
    """The value if it is of the kind (64.0 passes for 64).

    Raises:
        DamagedFileError: it is not.
    """
    if kind in (COUNT, COUNTS) and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind in (COUNT, COUNTS) and type(value) is int and value >= BEYOND_COUNTING:
        raise DamagedFileError(
            f"is {float(value):.4g}, more than anything counts to"
            if value < 10**300
            else "is more than anything counts to",
            file=path,
            where=f"key {name!r}",
            remedy=WRONG_VALUE,
        )
    if not kind.holds(value):
        shown = repr(value)
        raise DamagedFileError(
            f"is {shown[:60]}{'…' * (len(shown) > 60)}, and must be {kind.noun}",
            file=path,
            where=f"key {name!r}",
            remedy=WRONG_VALUE,
        )
    return value


def rope_settings(path: Path, source: Source) -> dict[str, Setting]:
    """Rope base, partial factor and scaling out of `rope_theta`, `rope_scaling` or `rope_parameters`.

    A scaling is kept as the file's own table under `rope.scaling`; type `default` is none. Where there is a
    table for each kind of layer, the full-attention one counts, and the other's base is `rope.freq_base_swa`.

    Raises:
        DamagedFileError: a value is not of its kind.
    """
    found: dict[str, Setting] = {}
    for spelling in ("rope_parameters", "rope_scaling"):
        table = source.values.get(spelling)
        if table is None:
            continue
        name = source.prefix + spelling
        table = held(path, name, table, TABLE)
        if isinstance(table.get("full_attention"), dict):
            local = table.get("sliding_attention")
            if isinstance(local, dict) and local.get("rope_theta") is not None:
                base = held(path, f"{name}.sliding_attention.rope_theta", local["rope_theta"], NUMBER)
                found["rope.freq_base_swa"] = Setting(base, f"{name}.sliding_attention.rope_theta")
            found |= _apart(local, table["full_attention"], f"{name}.sliding_attention")
            name, table = f"{name}.full_attention", table["full_attention"]
        parts = (
            Fact("rope.freq_base", NUMBER, ("rope_theta",)),
            Fact("rope.partial_rotary_factor", NUMBER, ("partial_rotary_factor",)),
        )
        found = gathered(path, parts, [Source(table, f"{name}.")]) | found
        if table.get("rope_type", table.get("type", "default")) != "default":
            found.setdefault("rope.scaling", Setting(table, name))
    found = _bases_of_layers(path, source) | found
    top = (
        Fact("rope.freq_base", NUMBERS, ("rope_theta", "rotary_emb_base")),
        Fact("rope.freq_base_swa", NUMBER, ("rope_local_base_freq",)),
    )
    return gathered(path, top, [source]) | found


def _bases_of_layers(path: Path, source: Source) -> dict[str, Setting]:
    """The bases out of a list of one for each layer, where each kind of layer has one; none of any other list."""
    bases, kinds, name = (
        source.values.get("rope_theta"),
        source.values.get("layer_types"),
        f"{source.prefix}rope_theta",
    )
    if not isinstance(bases, list) or not bases:
        return {}
    held(path, name, bases, NUMBERS)
    if len(set(bases)) == 1:
        return {"rope.freq_base": Setting(bases[0], name)}
    of_kind: dict[bool, set[float]] = {True: set(), False: set()}
    for base, kind in zip(bases, kinds if isinstance(kinds, list) else (), strict=False):
        of_kind[kind == "sliding_attention"].add(base)
    if not all(len(found) == 1 for found in of_kind.values()):
        return {}
    keys = {False: "rope.freq_base", True: "rope.freq_base_swa"}
    return {keys[slides]: Setting(base, name) for slides, (base,) in of_kind.items()}


def _apart(local: Any, whole: Mapping[str, Any], name: str) -> dict[str, Setting]:
    """What the rotation of layers with a window states that few architectures have: a scaling, or another part of each
    head than the other layers rotate."""
    if not isinstance(local, dict):
        return {}
    rule, part = local.get("rope_type", "default"), local.get("partial_rotary_factor")
    found = {}
    if rule != "default":
        found["rope.swa_scaling"] = Setting(rule, f"{name}.rope_type")
    if part is not None and part != whole.get("partial_rotary_factor"):
        found["rope.swa_partial_rotary_factor"] = Setting(part, f"{name}.partial_rotary_factor")
    return found


def attention_scale(path: Path, source: Source) -> dict[str, Setting]:
    """The attention scale out of keys that state it in another form.

    Raises:
        DamagedFileError: a value is not of its kind.
    """
    scalar = source.values.get("query_pre_attn_scalar")
    if scalar is not None:
        name = f"{source.prefix}query_pre_attn_scalar"
        if not held(path, name, scalar, NUMBER) > 0:
            raise DamagedFileError(
                f"is {scalar}, and must be positive", file=path, where=f"key {name!r}", remedy=WRONG_VALUE
            )
        return {"attention.scale": Setting(float(scalar) ** -0.5, name)}
    if source.values.get("scale_attn_weights") is False:
        return {"attention.scale": Setting(1.0, f"{source.prefix}scale_attn_weights")}
    return {}


# The latter's window is of what is written (transformers, configuration_utils.py): a prompt's tokens see all before.
_SEE_THE_PROMPT = ("full_attention", "reference_sliding_attention")


def sliding_window(path: Path, source: Source) -> dict[str, Setting]:
    """The sliding window, and which layers use it, where the file says that it is in use.

    Raises:
        DamagedFileError: a value is not of its kind.
    """
    if source.values.get("use_sliding_window") is False:
        return {}
    found = gathered(path, [Fact("attention.sliding_window", COUNT, ("sliding_window",))], [source])
    kinds = source.values.get("layer_types")
    name = f"{source.prefix}layer_types"
    if (
        isinstance(kinds, list)
        and kinds
        and set(held(path, name, kinds, TEXTS)) <= {"sliding_attention", *_SEE_THE_PROMPT}
    ):
        pattern = [kind == "sliding_attention" for kind in kinds]
        found["attention.sliding_window_pattern"] = Setting(pattern, name)
    return found
