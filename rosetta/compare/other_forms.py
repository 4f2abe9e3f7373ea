"""Keys of a file that say a setting in another form than ours, and how they say it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from rosetta.architectures import Architecture
from rosetta.architectures.parts.expert_settings import expert_step, leading_dense_count, shared_expert_count
from rosetta.architectures.parts.recurrent import RECURRENT
from rosetta.architectures.parts.stated_kinds import PATTERN, network_kinds, recurrent_kinds, window_kinds
from rosetta.compare.settings import in_json, plain
from rosetta.config import Config, Value
from rosetta.ops.latent import NOPE
from rosetta.ops.recurrent import GROUPS, INNER, KERNEL, RANK, STATE
from rosetta.setting_values import listed

GATING_WORDS = {1: "softmax", 2: "sigmoid", 4: "sqrtsoftplus"}


def layer_types(config: Config) -> list[str] | None:
    """What each layer is: a window or none, recurrent or not."""
    if RECURRENT in config:
        return recurrent_kinds(config, "conv" if "shortconv.l_cache" in config else "linear_attention")
    if PATTERN in config or (
        config.get("attention.sliding_window") and config["attention.sliding_window"].value
    ):
        return window_kinds(config if PATTERN in config else {**config, PATTERN: Value(True)})
    return None


def _of(key: str) -> Callable[[Config], Any]:
    return lambda c: plain(c[key].value) if key in c else None


def _share(config: Config, whole: str, of: str) -> int | None:
    return int(config[whole].value // config[of].value) if whole in config and of in config else None


def _sparse(config: Config) -> list[bool]:
    return listed(config, "expert_layers") if "expert_layers" in config else []


# Keys of config.json that say a setting in another form -> what they say.
OTHER_FORMS: Mapping[str, Callable[[Config], Any]] = {
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), leading_dense_count),
    **dict.fromkeys(
        ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
        shared_expert_count,
    ),
    **dict.fromkeys(
        ("scoring_func", "score_func", "score_function", "moe_router_activation_func"),
        lambda c: GATING_WORDS.get(c["expert_gating_func"].value) if "expert_gating_func" in c else None,
    ),
    "layer_types": layer_types,
    "mlp_layer_types": lambda c: network_kinds(c) if "expert_layers" in c else None,
    "mlp_only_layers": lambda c: [n for n, on in enumerate(_sparse(c)) if not on],
    "decoder_sparse_step": lambda c: 1,
    "interleave_moe_layer_step": expert_step,
    "moe_layer_interval": lambda c: expert_step(c) or 1,
    "moe_layer_end_index": lambda c: max((n for n, on in enumerate(_sparse(c)) if on), default=-1),
    "moe_layers": lambda c: [n for n, on in enumerate(_sparse(c)) if on] or None,
    "no_rope_layers": lambda c: [int(on) for on in listed(c, "rope.layers")] if "rope.layers" in c else None,
    "qk_nope_head_dim": _of(NOPE),
    "qk_rope_head_dim": _of("rope.dimension_count"),
    "v_head_dim": _of("attention.value_length"),
    **dict.fromkeys(("linear_conv_kernel_dim", "conv_kernel", "mamba_d_conv"), _of(KERNEL)),
    **dict.fromkeys(("linear_key_head_dim", "state_size", "ssm_state_size", "mamba_d_state"), _of(STATE)),
    **dict.fromkeys(("linear_num_key_heads", "n_groups", "mamba_n_groups"), _of(GROUPS)),
    **dict.fromkeys(
        ("linear_num_value_heads", "num_heads", "mamba_num_heads", "mamba_n_heads", "time_step_rank", "mamba_dt_rank"),
        _of(RANK),
    ),
    **dict.fromkeys(("linear_value_head_dim", "mamba_head_dim", "mamba_d_head"), lambda c: _share(c, INNER, RANK)),
    **dict.fromkeys(("expand", "mamba_expand"), lambda c: _share(c, INNER, "embedding_length")),
    "mamba_d_ssm": _of(INNER),
    "mamba_norm_before_gate": _of("ssm.norm_before_gate"),
    "attn_layer_indices": lambda c: [n for n, on in enumerate(listed(c, RECURRENT)) if not on],
    "position_embedding_type": lambda c: (
        None if "rope.scaling.finetuned" not in c else "rope" if c["rope.scaling.finetuned"].value else "nope"
    ),
    "mup_enabled": lambda c: "embedding_scale" in c and c["embedding_scale"].value != 1,
    "vocab_size_per_layer_input": _of("per_layer_vocab_size"),
    "attention_k_eq_v": lambda c: any(listed(c, "attention.keys_are_values")),
    "enable_moe_block": lambda c: bool(c["expert_count"].value),
    "global_head_dim": lambda c: max(listed(c, "attention.key_length")),
    "num_global_key_value_heads": lambda c: min(listed(c, "attention.head_count_kv")),
    "use_double_wide_mlp": lambda c: len(set(listed(c, "feed_forward_length"))) > 1,
    "intermediate_size_mlp": _of("feed_forward_length"),
    "new_decoder_architecture": lambda c: "parallel_norms" in c and c["parallel_norms"].value == 2,
    "num_ln_in_parallel_attn": _of("parallel_norms"),
    "multi_query": lambda c: c["attention.head_count_kv"].value == 1,
    "parallel_attn": lambda c: True,
    "hybrid_layer_pattern": lambda c: [int(on) for on in listed(c, PATTERN)] if PATTERN in c else None,
    "moe_layer_freq": lambda c: [int(on) for on in _sparse(c)] or None,
    "rope_local_base_freq": _of("rope.freq_base_swa"),
    "alibi": lambda c: True if c.get("attention.max_alibi_bias") and c["attention.max_alibi_bias"].value else None,
}  # fmt: skip


def _interval(config: Config) -> int | None:
    """Every how many layers one has attention."""
    recurrent = listed(config, "attention.recurrent_layers")
    every = range(1, len(recurrent) + 2)
    return next((e for e in every if all(on == ((n + 1) % e != 0) for n, on in enumerate(recurrent))), None)


# Keys of a GGUF file that say a setting in another form -> what they say.
DERIVED: Mapping[str, Callable[[Config], Any]] = {
    "leading_dense_block_count": leading_dense_count,
    "expert_shared_count": shared_expert_count,
    "interleave_moe_layer_step": expert_step,
    "full_attention_interval": _interval,
}


Forms = Mapping[str, Callable[[Any], Any]]
"""Keys, without the tables that they stand in -> what they say, of the canonical settings."""


def forms_of(architecture: Architecture) -> Forms:
    """All keys that say a setting in another form, an architecture's own among them."""
    own = {key.rpartition(".")[2]: form for key, form in architecture.huggingface.keys.items()}
    return {**OTHER_FORMS, **DERIVED, **own}


def ways_to_say(
    name: str, stated: Any, wanted: Config, value: Any, before: Any, forms: Forms
) -> Iterator[Any]:
    """What a key might have to say for a setting to be right; the form that fits is found by reading the file with it.

    Args:
        name: of the key, without the tables that it stands in.
        stated: what it says now; None: it is not there.
        wanted: the settings as they are to be.
        value, before: the setting's value in these, and as the file says it now.
        forms: see `forms_of`.
    """
    if name in forms:
        # A form may ask for what the model has not.
        with contextlib.suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
            form = forms[name](wanted)
            if form is not None:
                yield in_json(form)
    if name == "query_pre_attn_scalar" and isinstance(value, float) and value:
        yield _rounded(value**-2)
    if name == "partial_rotary_factor" and isinstance(value, int) and "attention.key_length" in wanted:
        yield value / max(listed(wanted, "attention.key_length"))
    if isinstance(stated, bool) or isinstance(value, bool):
        yield value if not isinstance(stated, bool) else not stated
    if isinstance(value, tuple):
        yield list(value)
        if isinstance(stated, int | float):  # of some of the layers, which another key tells apart
            yield from sorted(set(value))
    if isinstance(stated, list) and isinstance(before, float) and isinstance(value, float):
        place = [isinstance(n, int | float) and np.float32(n) == np.float32(before) for n in stated]
        for at in (at for at, here in enumerate(place) if here):  # two limits in one list
            yield [*stated[:at], plain(value), *stated[at + 1 :]]
    if isinstance(value, int | float | str):
        yield plain(value)
    numbers = all(
        isinstance(n, int | float) and not isinstance(n, bool) and n for n in (stated, value, before)
    )
    if numbers:  # a share of something else, or the other way round
        for share in (stated * value / before, stated * before / value):
            yield int(share) if isinstance(stated, int) and share == int(share) else share
        # A size whose root the setting is the reciprocal of.
        yield _rounded(float(stated) * (before / value) ** 2)
    if name == "sliding_window" and stated is not None:
        yield None
    if value and (stated is None or stated is False):
        yield True
    if not value and stated is not None:
        yield None


def _rounded(number: float) -> float:
    """A count where it is as good as one."""
    return round(number) if abs(number - round(number)) < 1e-3 else number
