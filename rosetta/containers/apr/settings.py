"""What the metadata of an `.apr` file says of its model, under GGUF keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rosetta.containers.apr.keys import ALIASES
from rosetta.containers.container import Setting
from rosetta.containers.json_text import json_object
from rosetta.containers.settings import (
    FORWARD_FACTS,
    Fact,
    Source,
    attention_scale,
    gathered,
    held,
    rope_settings,
    sliding_window,
)
from rosetta.containers.values import COUNT, COUNTS, NUMBER
from rosetta.errors import DamagedFileError


def _fact(key: str, canonical: str) -> Fact:
    kind = NUMBER if canonical == "rms_norm_eps" else COUNT
    return Fact(key, kind, (canonical, *ALIASES.get(canonical, ())))


APR_FACTS: tuple[Fact, ...] = (
    _fact("embedding_length", "hidden_size"),
    _fact("block_count", "num_layers"),
    _fact("attention.head_count", "num_heads"),
    _fact("attention.head_count_kv", "num_kv_heads"),
    _fact("vocab_size", "vocab_size"),
    _fact("feed_forward_length", "intermediate_size"),
    _fact("context_length", "max_position_embeddings"),
    _fact("attention.layer_norm_rms_epsilon", "rms_norm_eps"),  # the one key for either kind of norm
    Fact("attention.key_length", COUNT, ("head_dim", "head_dim_override")),
    Fact("attention.value_length", COUNT, ("head_dim", "head_dim_override")),
    Fact("rope.type", COUNT, ("rope_type",)),
    *FORWARD_FACTS,
)
_TOKEN_FACTS: tuple[Fact, ...] = tuple(
    Fact(key, COUNTS, (f"tokenizer.{key}", key)) for key in ("bos_token_id", "eos_token_id")
)
_ARCHITECTURE_KEYS: tuple[str, ...] = ("architecture", "hf_model_type", "hf_architecture", "model_type")
_NO_ARCHITECTURE: tuple[str, ...] = ("", "auto", "unknown", "transformer_lm", "transformer_lm_q4k")
"""What importers write there without knowing."""


def apr_settings(path: Path, metadata: Mapping[str, Any], note: Callable[[str], None]) -> dict[str, Setting]:
    """The settings, in order of trust from the top level, the `model.*` keys and the `model_config` string.

    Args:
        path: the file, for messages.
        metadata: the file's JSON object.
        note: told of each irregularity that was tolerated.

    Raises:
        DamagedFileError: a value is not of its kind, or `model_config` is no JSON object.
    """
    sources = _sources(path, metadata)
    for canonical, aliases in ALIASES.items():
        spelled = [key for key in (canonical, *aliases) if key in metadata]
        if len(spelled) > 1:
            note(f"the metadata spells one field several ways ({', '.join(spelled)}): some loaders refuse it")
    found = gathered(path, APR_FACTS, sources) | gathered(path, _TOKEN_FACTS, sources[:1])
    for source in sources:
        for derived in (_rotation, attention_scale, sliding_window):
            for key, setting in derived(path, source).items():
                found.setdefault(key, setting)
    return found


def _rotation(path: Path, source: Source) -> dict[str, Setting]:
    """See `rope_settings`; the format's own key of the base, the one that aprender reads, comes before a table that was
    taken over from config.json."""
    found = rope_settings(path, source)
    base = source.values.get("rope_theta")
    if base is not None and not isinstance(base, list):
        name = f"{source.prefix}rope_theta"
        found["rope.freq_base"] = Setting(held(path, name, base, NUMBER), name)
    return found


def apr_architecture(path: Path, metadata: Mapping[str, Any]) -> str | None:
    """The architecture slug as the file says it; None where it does not.

    Raises:
        DamagedFileError: `model_config` is no JSON object.
    """
    for source in _sources(path, metadata):
        for key in _ARCHITECTURE_KEYS:
            value = source.values.get(key)
            if isinstance(value, str) and value.lower() not in _NO_ARCHITECTURE:
                return value
    return None


def _sources(path: Path, metadata: Mapping[str, Any]) -> tuple[Source, ...]:
    dotted = {
        key.removeprefix("model."): value for key, value in metadata.items() if key.startswith("model.")
    }
    sources = (Source(metadata), Source(dotted, "model."))
    config = metadata.get("model_config")
    if config is None:
        return sources
    if isinstance(config, str):
        config = json_object(path, config.encode(errors="replace"), "the metadata's model_config")
    if not isinstance(config, dict):
        remedy = "convert the model again"
        raise DamagedFileError("is no object", file=path, where="key 'model_config'", remedy=remedy)
    return (*sources, Source(config, "model_config."))
