"""Canonical settings under a JSON file's own spelling: config.json, or the metadata of an `.apr` file."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from rosetta.compare.settings import plain
from rosetta.containers.apr.settings import APR_FACTS
from rosetta.containers.container import Container
from rosetta.containers.huggingface.settings import HUGGINGFACE_FACTS
from rosetta.containers.huggingface.text_part import text_part, without_rotation
from rosetta.diagnose.stated_scaling import as_parameters, share_of
from rosetta.errors import UnsupportedError
from rosetta.model import Model
from rosetta.repair.changes import ABSENT, Change, said
from rosetta.settings_reader import ACTIVATIONS as NAMES

Table = dict[str, Any]
APR_EPSILON = "attention.layer_norm_rms_epsilon"  # whose spellings an `.apr` uses for either norm
# Ours -> transformers' names; "gelu_new" is what GPT-2's files say for the same function.
ACTIVATIONS = {ours: name for name, ours in reversed(NAMES.items())}
ROPE_TABLES = ("rope_parameters", "rope_scaling")


class Settings:
    """The keys of a JSON object that states a model's settings, changed one by one; what changed is kept.

    Args:
        container: the file as it is.
        model: the repaired model, whose settings are to be stated.
        other: the file that the repair believes.
    """

    def __init__(self, container: Container, model: Model, other: Model) -> None:
        self.kind, self.model, self.other = container.kind, model, other
        self.metadata: Table = copy.deepcopy(dict(container.metadata))
        self.changes: list[Change] = []
        self.fresh: list[tuple[Table, str, Change]] = []  # keys that the file has not had
        facts = APR_FACTS if self.kind == "apr" else HUGGINGFACE_FACTS
        self.spellings = {fact.key: fact.spellings for fact in facts}
        if self.kind == "huggingface":  # the class's own first
            for key, own in model.architecture.huggingface.spellings.items():
                self.spellings[key] = tuple(dict.fromkeys((own, *self.spellings.get(key, ()))))
        self._trained: Table | None = None  # an `.apr` checkpoint's config, a JSON text inside the JSON
        self.tables = self._tables()

    def _tables(self) -> list[tuple[str, Table, str]]:
        """Where settings stand, in order of trust: (what is shown before a key, table, what stands before it)."""
        if self.kind == "huggingface":
            part = text_part(self.metadata)
            inner = [] if part is None else [(part.prefix, cast(Table, part.config), "")]
            return [*inner, ("", self.metadata, "")]
        tables = [("", self.metadata, ""), ("", self.metadata, "model.")]
        config = self.metadata.get("model_config")
        if isinstance(config, str):
            config = self._trained = json.loads(config)
        return [*tables, ("model_config.", config, "")] if isinstance(config, dict) else tables

    def write(self, settings: Mapping[str, Any]) -> list[str]:
        """State canonical settings; returns the keys that the file has no place for."""
        unsaid = []
        for key, value in settings.items():
            try:
                if key in SPECIAL:
                    SPECIAL[key](self, value)
                elif self.kind == "apr" and key == "attention.layer_norm_epsilon":
                    self.put(self.spellings[APR_EPSILON], plain(value))
                elif key in self.spellings and key != "norm.type":
                    self.put(self.spellings[key], plain(value))
                elif key != "norm_type" or "architecture" not in settings:  # it comes with the architecture
                    unsaid.append(key)
            except UnsupportedError:
                unsaid.append(key)
        self.stated()
        return unsaid

    def stated(self) -> Table:
        """The object as it will be written."""
        if self._trained is not None:
            self.metadata["model_config"] = json.dumps(
                self._trained, ensure_ascii=False, separators=(",", ":")
            )
        return self.metadata

    def put(self, spellings: Sequence[str], value: Any, fresh: str | None = None) -> None:
        """Give every spelling that the file uses the value, or add the first one."""
        held = [place for table in self.tables for place in self._held(table, spellings)]
        if self.kind == "huggingface":  # the inner config alone counts where it has the key
            held = [place for place in held if place[0] == held[0][0]]
        for shown, table, key in held:
            self.assign(shown, table, key, value)
        if not held:
            shown, table, _ = self.tables[0]
            self.assign(shown, table, fresh or spellings[0], value)

    def remove(self, spellings: Sequence[str]) -> None:
        """Take every spelling that the file uses out: null in config.json, which defaults are made of."""
        for place in [place for table in self.tables for place in self._held(table, spellings)]:
            shown, table, key = place
            if self.kind == "huggingface":
                self.assign(shown, table, key, None)
            else:
                self.changes.append(Change(shown + key, said(table.pop(key)), ABSENT))

    def assign(self, shown: str, table: Table, key: str, value: Any) -> None:
        """Set one key of one table."""
        before = said(table[key]) if key in table else ABSENT
        if key not in table or table[key] != value:
            change = Change(shown + key, before, said(value))
            if key not in table:
                self.fresh.append((table, key, change))
            table[key] = value
            self.changes.append(change)

    def has(self, spellings: Sequence[str]) -> bool:
        """Whether the file has one of the keys, null or not."""
        return any(self._held(table, spellings) for table in self.tables)

    def rope_tables(self) -> list[tuple[str, Table, str]]:
        """The tables that state rotary parameters together."""
        found = []
        for shown, table, prefix in self.tables:
            for spelling in ROPE_TABLES:
                inner, name = table.get(prefix + spelling), f"{shown}{prefix}{spelling}."
                if isinstance(inner, dict) and isinstance(inner.get("full_attention"), dict):
                    inner, name = inner["full_attention"], f"{name}full_attention."
                if isinstance(inner, dict):
                    found.append((name, inner, ""))
        return found

    @staticmethod
    def _held(table: tuple[str, Table, str], spellings: Sequence[str]) -> list[tuple[str, Table, str]]:
        shown, held, prefix = table
        return [(shown, held, prefix + name) for name in spellings if prefix + name in held]


def _rope_base(file: Settings, value: float) -> None:
    spellings, tables = ("rope_theta", "rotary_emb_base"), file.rope_tables()
    inside = [table for table in tables if "rope_theta" in table[1]]
    for shown, table, _ in inside:
        file.assign(shown, table, "rope_theta", plain(value))
    if file.has(spellings) or not inside:
        modern = [table for table in tables if ".rope_parameters." in f".{table[0]}"]
        if modern and not file.has(spellings):  # transformers 5 has the base there
            file.assign(modern[0][0], modern[0][1], "rope_theta", plain(value))
        elif without_rotation(file.metadata):
            file.put(("rope_parameters",), {"rope_type": "default", "rope_theta": plain(value)})
        else:
            file.put(spellings, plain(value))


def _rope_scaling(file: Settings, value: Any) -> None:
    parameters = None if value is None else as_parameters(value, file.model, file.other.container)
    for shown, table, prefix in file.tables:
        key = prefix + "rope_parameters"
        if isinstance(table.get(key), dict) and isinstance(table[key].get("full_attention"), dict):
            shown, table, key = f"{shown}{key}.", table[key], "full_attention"
        if isinstance(table.get(key), dict):
            kept = {k: table[key][k] for k in ("rope_theta", "partial_rotary_factor") if k in table[key]}
            file.assign(shown, table, key, {**kept, **(parameters or {"rope_type": "default"})})
            return
    if parameters is None:
        file.remove(("rope_scaling",))
    else:
        file.put(("rope_parameters" if without_rotation(file.metadata) else "rope_scaling",), parameters)


def _asked(file: Settings, *names: str) -> tuple[str, ...]:
    """Those of the keys that the file's loader asks for: of a folder, the class of its architecture."""
    heeded = file.model.architecture.huggingface.asks_for
    return tuple(name for name in names if file.kind != "huggingface" or heeded(name))


def _rotated(file: Settings, value: int) -> None:
    counted, spellings = _asked(file, "rotary_dim"), file.spellings["rope.partial_rotary_factor"]
    if file.has(counted):
        file.put(counted, value)
        return
    if not _asked(file, *spellings):
        raise UnsupportedError(f"transformers turns whole heads of a {file.model.architecture.name}")
    share = share_of(value, file.model["attention.key_length"])
    tables = file.rope_tables()
    inside = [table for table in tables if "partial_rotary_factor" in table[1]]
    for shown, table, _ in inside or ([] if file.has(spellings) else tables[:1]):
        file.assign(shown, table, "partial_rotary_factor", share)
    if file.has(spellings) or not tables:
        file.put(spellings, share)


def _attention_scale(file: Settings, value: float) -> None:
    multiplier = _asked(file, *file.spellings["attention.scale"])
    scalar_key, switch = (_asked(file, name) for name in ("query_pre_attn_scalar", "scale_attn_weights"))

    def in_use(name: tuple[str, ...]) -> bool:
        return bool(name) and not file.has(multiplier) and (file.has(name) or not multiplier)

    if in_use(scalar_key):
        scalar = value**-2
        file.put(scalar_key, round(scalar) if abs(scalar - round(scalar)) < 1e-3 else scalar)
        return
    if in_use(switch):
        standard = math.isclose(value, file.model["attention.key_length"] ** -0.5, rel_tol=1e-6)
        if standard or value == 1:
            file.put(switch, standard)
            return
    if not multiplier:
        raise UnsupportedError(
            f"transformers reads no scale of the scores of a {file.model.architecture.name}"
        )
    file.put(multiplier, plain(value))


def _activation(file: Settings, value: str) -> None:
    spellings = file.spellings["activation"]
    conv1d = bool(file.model.architecture.huggingface.conv1d)  # GPT-2's config class has its own words
    name = "gelu_new" if value == "gelu_tanh" and conv1d else ACTIVATIONS[value]
    file.put(spellings, name, "activation_function" if conv1d else spellings[0])


def _tied(file: Settings, value: bool) -> None:
    fresh = "tie_word_embeddings" if file.kind == "huggingface" else "tied_embeddings"
    file.put(file.spellings["tied_embeddings"], value, fresh)


def _architecture(file: Settings, value: str) -> None:
    same = file.other.architecture.gguf == value  # a mistral is filed as llama in GGUF, and is none elsewhere
    architecture = file.other.architecture if same else file.model.architecture
    if file.kind == "huggingface":
        file.put(("model_type",), architecture.name)
        file.put(("architectures",), [architecture.classes[0]])
        return
    file.put(("architecture",), architecture.name)
    for key, name in (("model_type", architecture.name), ("hf_model_type", architecture.name),
                      ("hf_architecture", architecture.classes[0])):  # fmt: skip
        if file.has((key,)):
            file.put((key,), name)


def _window(file: Settings, value: int) -> None:
    published = file.model.architecture.huggingface.defaults if file.kind == "huggingface" else {}
    if not value:
        file.remove(("sliding_window",))
        return
    if file.kind == "huggingface" and "attention.sliding_window" not in published:
        raise UnsupportedError(f"transformers runs no sliding window of a {file.model.architecture.name}")
    file.put(("sliding_window",), value)
    if "use_sliding_window" in published or file.has(("use_sliding_window",)):
        file.put(("use_sliding_window",), True)
    if "max_window_layers" not in published:
        return
    layers, windows = file.model.block_count, file.model.architecture.huggingface.windows
    if file.has(("layer_types",)) or not all(windows(layer, 0) for layer in range(layers)):
        file.put(("layer_types",), ["sliding_attention"] * layers)
    else:
        file.put(("max_window_layers",), 0)


SPECIAL: dict[str, Callable[[Settings, Any], None]] = {
    "rope.freq_base": _rope_base,
    "rope.scaling": _rope_scaling,
    "rope.dimension_count": _rotated,
    "attention.scale": _attention_scale,
    "activation": _activation,
    "tied_embeddings": _tied,
    "architecture": _architecture,
    "attention.sliding_window": _window,
}
"""Settings that files state in another form than one number under one key."""
