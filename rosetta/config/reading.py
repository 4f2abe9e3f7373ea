"""Reads a container's settings one after another: sizes, heads, epsilon, activation and head here, the rest beside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rosetta.architectures import Architecture
from rosetta.config.refusals import refuse_what_is_not_run
from rosetta.config.rotary import read_rotary, refuse_windows_without_base
from rosetta.config.windows import read_window
from rosetta.containers.container import Container, Setting
from rosetta.containers.huggingface.text_part import tied_unless_stated
from rosetta.containers.values import WRONG_VALUE
from rosetta.errors import DamagedFileError
from rosetta.names import FOREIGN_LAYER
from rosetta.setting_values import PerLayer, Value, float32
from rosetta.settings_reader import ACTIVATIONS, SettingsReader, loader_of


def read_config(
    container: Container,
    architecture: Architecture,
    shapes: Mapping[str, tuple[int, ...]],
    overrides: Mapping[str, Any],
) -> tuple[dict[str, Value], tuple[Setting, ...]]:
    """The container's configuration under GGUF keys, and what it states beyond what the architecture computes.

    Args:
        container: an open container.
        architecture: what it holds.
        shapes: stored dims by canonical tensor name, where a default is derived from them.
        overrides: canonical settings that a repair puts in place of the file's.

    Raises:
        DamagedFileError: a key that the container's own loader needs is missing, or no count or number.
        UnsupportedError: a rope scaling rule, an activation or a per-layer size that rosetta does not run.
    """
    read, kind = SettingsReader(container, architecture, overrides), container.kind
    if not architecture.runs:
        return _as_stated(read, shapes), ()
    theirs = f"default of {loader_of(kind)}"
    published = architecture.huggingface.defaults if kind == "huggingface" else {}

    read.config["architecture"] = Value(architecture.gguf, "architecture")
    embedding = shapes.get("token_embd.weight", (0, 0))
    read.count("block_count", published.get("block_count"), theirs)
    _leave_out_predictors(read)
    read.count("context_length", published.get("context_length", 0 if kind == "apr" else None), theirs)
    hidden = read.count("embedding_length", published.get("embedding_length"), theirs)
    if architecture.feed_forward:
        ffn_default = 4 * hidden if kind == "huggingface" and not architecture.gated else None
        read.counts("feed_forward_length", published.get("feed_forward_length", ffn_default), theirs)
    if architecture.attention:
        _heads(read, shapes, published, theirs)
    if "vocab_size" in published:
        read.count("vocab_size", published["vocab_size"], theirs)
    else:
        read.count("vocab_size", embedding[0] or None, "rows of the embedding")

    read.norm_type(Value(architecture.norm, "architecture"))
    _epsilon(read)
    _activation(read)
    if architecture.rope is not None:
        read_rotary(read, shapes)
    if architecture.attention:
        key_length = read.size("attention.key_length")
        read.number("attention.scale", 1 / math.sqrt(key_length), "1/√(key length)")
        read_window(read, published)
    _head(read, shapes, published)
    try:
        architecture.settings(read)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise DamagedFileError(
            f"the settings of {architecture.name} cannot be worked out: {error}",
            file=container.path,
            remedy=WRONG_VALUE,
        ) from error
    refuse_windows_without_base(read)
    refuse_what_is_not_run(read)
    read.refuse_others(architecture.huggingface.only_with)
    for key in ("bos_token_id", "eos_token_id"):
        setting = read.raw(key)
        if setting is not None:
            read.config[key] = Value(setting.value, setting.key)
    return read.config, read.unheeded()


def _as_stated(read: SettingsReader, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Value]:
    """What the file states, key by key, of an architecture that is not run; what it leaves out, by its tensors."""
    for key, setting in read.stated("").items():
        named = read.container.settings[key]
        if key == "activation":
            setting = ACTIVATIONS.get(str(setting), setting)
        if isinstance(setting, int | float | str | list):
            value = float32(setting)
            if isinstance(value, float) and value.is_integer():  # 10000.0, where the other file has 10000
                value = int(value)
            read.config[key] = Value(value, named.key)
    layers = [int(found[1]) + 1 for name in shapes if (found := FOREIGN_LAYER.search(name))]
    counted = {
        "block_count": max(layers, default=0),
        "vocab_size": shapes.get("token_embd.weight", (0,))[0],
        "tied_embeddings": "output.weight" not in shapes,
    }
    for key, value in counted.items():
        if type(read.config.get(key, Value(None)).value) is not type(value):
            read.config[key] = Value(value, None, "by the tensors" if value else "not stated")
    return read.config


def _leave_out_predictors(read: SettingsReader) -> None:
    """A GGUF counts the blocks that predict tokens further on among its blocks; they are not run."""
    found, predictors = read.config["block_count"], read.raw("nextn_predict_layers")
    if read.container.kind != "gguf" or "block_count" in read.overrides or predictors is None:
        return
    if type(predictors.value) is int and 0 < predictors.value < found.value:
        note = f"less the {predictors.value} that predict further tokens"
        read.config["block_count"] = Value(found.value - predictors.value, found.key, note)


def _heads(
    read: SettingsReader, shapes: Mapping[str, tuple[int, ...]], published: Mapping[str, Any], theirs: str
) -> None:
    """Heads, those of keys and values, and their sizes."""
    heads = read.counts("attention.head_count", published.get("attention.head_count"), theirs)
    most = max(heads) if isinstance(heads, PerLayer) else heads
    kv_default = (
        most if read.says_null("num_key_value_heads") else published.get("attention.head_count_kv", most)
    )
    read.counts("attention.head_count_kv", kv_default, theirs)
    hidden = read.config["embedding_length"].value
    key_default, key_note = _head_size(read, shapes, hidden, max(most, 1))
    key_length = read.count("attention.key_length", key_default, key_note)
    if read.container.kind == "gguf":  # llama.cpp has one default for both, whatever is stated of keys
        read.count("attention.value_length", max(hidden // max(most, 1), 1), "embedding length / heads")
    else:
        read.count("attention.value_length", key_length, "the key length")


def _head_size(
    read: SettingsReader, shapes: Mapping[str, tuple[int, ...]], hidden: int, heads: int
) -> tuple[int, str]:
    kind, published = read.container.kind, read.architecture.huggingface.defaults
    if kind == "huggingface" and "attention.key_length" in published:
        return int(published["attention.key_length"]), "default of transformers"
    query = shapes.get("blk.0.attn_q.weight")
    if kind == "apr" and query and query[0] % heads == 0 and "attention.head_count" not in read.overrides:
        return query[0] // heads, "rows of q / heads, as aprender infers it"  # GGUFConfig::from_apr, GH-479
    return max(hidden // heads, 1), "embedding length / heads"


def _epsilon(read: SettingsReader) -> None:
    architecture, kind = read.architecture, read.container.kind
    key = architecture.epsilon_key
    spellings = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
    # An `.apr` has one key for either norm; llama.cpp and transformers ask for the architecture's own alone.
    if key not in read.overrides and kind == "apr" and read.raw(key) is None:
        for other in spellings:
            setting = read.raw(other)
            if setting is not None:
                read.overrides = {**read.overrides, key: setting.value}
                read.number(key, None)
                read.config[key] = Value(
                    _not_negative(read, setting.key, read.config[key].value), setting.key
                )
                return
    note = f"default of {loader_of(kind)} for {architecture.name}"
    if kind == "gguf":
        note = "llama.cpp refuses a file without this key; the architecture's published value"
    _not_negative(read, key, read.number(key, architecture.norm_epsilon.of(kind), note))


def _not_negative(read: SettingsReader, key: str, epsilon: float) -> float:
    if epsilon < 0:
        raise DamagedFileError(
            f"{key} is {epsilon:.8g}, which is negative", file=read.container.path, remedy=WRONG_VALUE
        )
    return epsilon


def _activation(read: SettingsReader) -> None:
    setting = read.raw("activation")
    if setting is None:
        read.config["activation"] = Value(read.architecture.activation, None, "the architecture's")
        return
    read.activation(setting)


def _head(read: SettingsReader, shapes: Mapping[str, tuple[int, ...]], published: Mapping[str, Any]) -> None:
    """Whether the head is the embedding: what the file says, else whether it holds a head."""
    setting = read.raw("tied_embeddings")
    whole = read.container.metadata
    unheld = "output.weight" not in shapes and "tied_embeddings" not in read.overrides
    if unheld and tied_unless_stated(whole):
        read.config["tied_embeddings"] = Value(
            True, None, f"default of transformers for {whole['model_type']}"
        )
    elif setting is not None and isinstance(setting.value, bool):
        read.config["tied_embeddings"] = Value(setting.value, setting.key)
    elif "tied_embeddings" in published:
        read.config["tied_embeddings"] = Value(published["tied_embeddings"], None, "default of transformers")
    else:
        stored = "output.weight" in shapes
        read.config["tied_embeddings"] = Value(
            not stored, None, "a head is stored" if stored else "no head is stored"
        )
