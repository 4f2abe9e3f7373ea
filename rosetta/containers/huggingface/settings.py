"""What config.json says of the model, under GGUF keys; every usual spelling of a key is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rosetta.containers.container import Setting
from rosetta.containers.huggingface.text_part import (
    NESTING,
    TIED_BY_EITHER,
    tables,
    text_config,
    text_part,
    whole,
)
from rosetta.containers.settings import (
    FORWARD_FACTS,
    Fact,
    Source,
    attention_scale,
    gathered,
    rope_settings,
    sliding_window,
)
from rosetta.containers.values import COUNT, COUNTS, NUMBER

QUANTISATION = ("quantization_config", "quantization")  # keys that say how weights are packed
SHARE = "rope.partial_rotary_factor"
SPECIAL_TOKENS = tuple(Fact(key, COUNTS, (key,)) for key in ("bos_token_id", "eos_token_id"))
HUGGINGFACE_FACTS: tuple[Fact, ...] = (
    Fact("embedding_length", COUNT, ("hidden_size", "n_embd", "n_embed", "d_model", "dim")),
    Fact("block_count", COUNT, ("num_hidden_layers", "n_layer", "n_layers", "num_layers")),
    Fact("attention.head_count", COUNTS, ("num_attention_heads", "n_head", "n_heads", "num_heads")),
    Fact(
        "attention.head_count_kv",
        COUNTS,
        ("num_key_value_heads", "n_head_kv", "num_kv_heads", "num_attention_groups"),
    ),
    Fact(
        "feed_forward_length", COUNTS, ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff")
    ),
    Fact(
        "context_length",
        COUNT,
        ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"),
    ),
    Fact("vocab_size", COUNT, ("vocab_size",)),
    Fact("attention.key_length", COUNT, ("head_dim", "kv_channels")),
    Fact("attention.value_length", COUNT, ("head_dim", "kv_channels")),
    Fact("attention.layer_norm_rms_epsilon", NUMBER, ("rms_norm_eps",)),
    Fact(
        "attention.layer_norm_epsilon",
        NUMBER,
        ("layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps"),
    ),
    *SPECIAL_TOKENS,
    *FORWARD_FACTS,
)


def huggingface_settings(path: Path, config: Mapping[str, Any]) -> dict[str, Setting]:
    """The settings; those of a part that reads come before the outer ones, but for whether the head is tied.

    Args:
        path: config.json, for messages.
        config: its object.

    Raises:
        DamagedFileError: a value is not of its kind.
    """
    sources = [Source(*table) for table in tables(config)]
    found = gathered(path, SPECIAL_TOKENS, _sources(config)) | gathered(path, HUGGINGFACE_FACTS, sources)
    for source in sources:
        for derived in (rope_settings, sliding_window):
            for key, setting in derived(path, source).items():
                found.setdefault(key, setting)
    # A table of the rotation holds beside a share at the top (transformers, modeling_rope_utils.py).
    for source in reversed(sources):
        found |= {key: setting for key, setting in rope_settings(path, source).items() if key == SHARE}
    # Classes that ask for a scale in another form ask for no other; those that ask for it as a number do so by name.
    for source in reversed(sources):
        found |= attention_scale(path, source)
    model = whole(config)
    tied = model.config.get("tie_word_embeddings")
    tied_by_part = text_config(config).get("tie_word_embeddings") is True
    either = tied_by_part and model.config.get("model_type") in TIED_BY_EITHER
    # Transformers ties by what the model's own config says; in few classes by that of a part as well.
    if isinstance(tied, bool) and not (either and not tied):
        found["tied_embeddings"] = Setting(tied, f"{model.prefix}tie_word_embeddings")
    return found


def huggingface_architecture(config: Mapping[str, Any]) -> str | None:
    """`model_type` as the config says it, else the first of `architectures`, else None."""
    model_type, classes = config.get("model_type"), config.get("architectures")
    if isinstance(model_type, str) and model_type:
        return model_type
    if isinstance(classes, list) and classes and isinstance(classes[0], str):
        return classes[0]
    return None


def huggingface_quantisation(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the config says of how weights are packed; None where it says nothing. MLX calls it `quantization`, writes
    it under the other key as well, without a method, and reads its own (mlx_lm, utils.load_model)."""
    for source in _sources(config):
        said = [found for key in QUANTISATION if isinstance(found := source.values.get(key), dict) and found]
        if said:
            return said[0] if "quant_method" in said[0] else said[-1]
    return None


def without_quantisation(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the same folder with plain weights."""
    return {
        key: without_quantisation(value) if key in NESTING and isinstance(value, dict) else value
        for key, value in config.items()
        if key not in QUANTISATION
    }


def _sources(config: Mapping[str, Any]) -> tuple[Source, ...]:
    part = text_part(config)
    return (Source(config),) if part is None else (Source(*part), Source(config))
