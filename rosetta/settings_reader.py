"""Reads one container's settings one by one: counts and numbers held to sane sizes, each with where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from rosetta.architectures import Default
from rosetta.containers.container import Setting
from rosetta.containers.values import WRONG_VALUE
from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.setting_lookup import SettingLookup
from rosetta.setting_values import PerLayer, Value, float32
from rosetta.settings_table import SETTINGS

LARGEST_COUNT = 1 << 31  # of any size in a config: what an int32 tensor index can hold
LARGEST_NUMBER = float(np.finfo(np.float32).max)
NOT_RUN = "rosetta does not run such a model; ask for it, with the file's config"
# No published model has a tenth of any; a damaged count must not cost minutes.
LARGEST_BLOCK_COUNT = 4096
LARGEST = {
    "block_count": LARGEST_BLOCK_COUNT,
    "expert_count": 8192,
    "rope.dimension_count": 1 << 16,
    "rope.dimension_count_swa": 1 << 16,
}

# transformers' names of activations -> ours (transformers, activations.py, ACT2FN).
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",  # first: the one that most classes have by themselves
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu_squared",
    "xielu": "xielu",
    "quick_gelu": "quick_gelu",
    "sigmoid": "sigmoid",
    "linear": "linear",
}


Kind = Literal["count", "number", "flag", "text"]
REAL: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "count": ("a count", lambda x: type(x) is int and x >= 0),
    "number": ("a finite number", lambda x: type(x) in (int, float) and abs(x) <= LARGEST_NUMBER),
    "flag": ("true or false", lambda x: type(x) is bool or x in (0, 1)),
    "text": ("a text", lambda x: isinstance(x, str)),
}
"""What a value of each kind is called, and whether one is of it."""


def largest_count(key: str) -> int:
    """What a count may be at most."""
    return LARGEST.get(key, LARGEST_COUNT)


def loader_of(container: str) -> str:
    """Whose defaults hold where a container lacks a key."""
    return {"apr": "aprender", "gguf": "llama.cpp", "huggingface": "transformers"}.get(container, container)


class SettingsReader(SettingLookup):
    """Reads one container's settings into canonical values, each of the kind and within the bounds that it has."""

    def put(self, key: str, setting: Setting | None, default: Any, note: str = "") -> Any:
        """Store the setting, or the default with its note; required where the default is None."""
        # What was asked for in vain before it is no name of this key.
        itself = f"{self.container.architecture}.{key}"
        named = (itself,) if itself in self._looked else self._looked
        asked = self._would_say(key)
        if setting is not None:
            self._refuse_text(key, setting)
            self.config[key] = Value(setting.value, setting.key)
        elif default is not None:
            self.config[key] = Value(default, None, note, asked)
        else:
            raise DamagedFileError(
                f"the metadata has no {' or '.join(dict.fromkeys(named)) or key}",
                file=self.container.path,
                remedy="export the model again with a complete configuration",
            )
        return self.config[key].value

    def _refuse_text(self, key: str, setting: Setting) -> None:
        """Refuse what no number can be made of, where a setting is one."""
        row = SETTINGS.get(key)
        if (
            row is not None
            and row.value in REAL
            and row.value != "text"
            and isinstance(setting.value, str | dict)
        ):
            raise self._wrong(setting, REAL[row.value][0])

    def take(
        self, key: str, kind: Kind, default: Any = None, spellings: tuple[str, ...] = (), note: str = ""
    ) -> Any:
        """Read a setting that not every architecture has.

        Args:
            key: its canonical key.
            kind: of its value; a list of as many as there are layers is a value for each.
            default: where the file does not state it, a value or what each container's loader assumes; None: it must.
            spellings: keys of config.json that mean it, beyond those that are known of all architectures.
            note: whose the default is, beyond the container's own loader.

        Returns:
            Its value, of which all floats are float32's.
        """
        setting = self.raw(key) or self.spelled(*spellings) or self._under_canonical_key(key)
        if setting is not None:
            setting = Setting(self._of_kind(setting, kind, largest_count(key)), setting.key)
        else:
            default = default.of(self.container.kind) if isinstance(default, Default) else default
            default = float32(float(default)) if kind == "number" and default is not None else default
        unread = ""
        if setting is None and self._is_unread(key):
            unread = "llama.cpp does not read it of this architecture"
            stated = self.container.settings.get(key)
            if stated is not None and stated.value == default:  # it says what is computed anyway
                self._asked.add(key)
        return self.put(key, setting, default, note or unread or "default of the architecture")

    def by_layer(
        self,
        key: str,
        values: Sequence[Any],
        note: str = "worked out from other keys",
        stated: str | None = None,
    ) -> None:
        """Put a setting of each layer that the file states in another form; one value where all are alike.

        Args:
            key: its canonical key.
            values: of the layers.
            note: from what it is worked out, where it is no key alone that states it.
            stated: the file's own key that does.
        """
        if key in self.overrides:
            values = (
                self.overrides[key] if isinstance(self.overrides[key], PerLayer) else [self.overrides[key]]
            )
        values = [float32(value) for value in values]
        alike = all(value == values[0] for value in values)
        value = values[0] if alike and values else PerLayer(values)
        self.config[key] = Value(value, stated, "" if stated else note, self._would_say(key))

    def norm_type(self, default: Value) -> None:
        """Put the kind of norm, which follows from the architecture. Only an `.apr` may state it, in our own words:
        config.json's of that name mean something else (MPT's `low_precision_layernorm`)."""
        key = "norm_type"
        stated = self.container.metadata.get(key) if self.container.kind == "apr" else None
        known = stated in SETTINGS[key].published
        self.config[key] = Value(stated, key) if known else default
        if key in self.overrides:
            self.config[key] = Value(self.overrides[key], self.config[key].key)

    def fixed(self, key: str, value: Any, note: str) -> None:
        """Put a setting that the container's own loader takes so, whatever the file says."""
        self.config[key] = Value(float32(self.overrides.get(key, value)), None, note, self._would_say(key))

    def activation(self, setting: Setting) -> None:
        """Put the activation that a setting names, by our name of it.

        Raises:
            UnsupportedError: it is none of those that are computed.
        """
        own = str(setting.value) if "activation" in self.overrides else None
        name = ACTIVATIONS.get(str(setting.value), own)
        if name is None:
            raise UnsupportedError(
                f"the activation {setting.value!r} is none of {', '.join(ACTIVATIONS)}",
                file=self.container.path,
                remedy=NOT_RUN,
            )
        self.config["activation"] = Value(name, setting.key)

    def _of_kind(self, setting: Setting, kind: Kind, largest: int = LARGEST_COUNT) -> Any:
        noun, of_kind = REAL[kind]
        noun = f"{noun} up to {largest}" if kind == "count" else noun
        value = setting.value

        def holds(one: Any) -> bool:
            return of_kind(one) and (kind != "count" or one <= largest)

        if isinstance(value, list | tuple) and value and all(holds(v) for v in value):
            values = [self._plain(v, kind) for v in value]
            layers = self.config["block_count"].value
            if all(v == values[0] for v in values):
                return values[0]
            if len(values) >= layers:
                return PerLayer(values[:layers])
            raise DamagedFileError(
                f"{setting.key} has {len(values)} values, and there are {layers} layers",
                file=self.container.path,
                remedy=WRONG_VALUE,
            )
        if not holds(value):
            raise self._wrong(setting, noun)
        return self._plain(value, kind)

    @staticmethod
    def _plain(value: Any, kind: Kind) -> Any:
        return float(np.float32(value)) if kind == "number" else bool(value) if kind == "flag" else value

    def _wrong(self, setting: Setting, noun: str) -> DamagedFileError:
        """What is said of a value that is none of its kind."""
        return DamagedFileError(
            f"{setting.key} is {repr(setting.value)[:60]}, not {noun}",
            file=self.container.path,
            remedy=WRONG_VALUE,
        )

    def _one_value(self, setting: Setting) -> Any:
        """A value that all layers share, which the file may state for each of them."""
        value = setting.value
        if not isinstance(value, list):
            return value
        if value and all(v == value[0] for v in value):
            return value[0]
        raise UnsupportedError(
            f"{setting.key} differs from layer to layer", file=self.container.path, remedy=NOT_RUN
        )

    def counts(self, key: str, default: int | None, note: str = "") -> Any:
        """A size that may be another one in each layer; 0 in layers that have none of it."""
        setting = self.raw(key)
        value = None if setting is None else setting.value
        if setting is not None and isinstance(value, list | tuple) and any(v != value[0] for v in value):
            return self.put(key, Setting(self._of_kind(setting, "count"), setting.key), None)
        return self.count(key, default, note)

    def count(self, key: str, default: int | None, note: str = "") -> int:
        """A size that all layers share, at least 1; arguments as of `take`."""
        setting, largest = self.raw(key), largest_count(key)
        if setting is not None and isinstance(setting.value, PerLayer):  # a repair's
            self.put(key, setting, None)
            return self.size(key)
        if setting is not None:
            value = self._one_value(setting)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= largest:
                raise self._wrong(Setting(value, setting.key), f"a count between 1 and {largest}")
            setting = Setting(value, setting.key)
        return int(self.put(key, setting, default, note))

    def size(self, key: str) -> int:
        """A count that was read; where each layer has its own, that of the first."""
        value = self.config[key].value
        return int(value.of(0) if isinstance(value, PerLayer) else value)

    def number(self, key: str, default: float | None, note: str = "") -> float:
        """A finite number that all layers share; arguments as of `take`."""
        setting = self.raw(key)
        if setting is not None and isinstance(setting.value, PerLayer):  # a repair's
            self.put(key, setting, None)
            return float(max(setting.value))
        if setting is not None:
            value = self._one_value(setting)
            noun, of_kind = REAL["number"]
            if not of_kind(value):
                raise self._wrong(Setting(value, setting.key), noun)
            setting = Setting(float(np.float32(value)), setting.key)
        return float(self.put(key, setting, None if default is None else float(np.float32(default)), note))

    def refuse_others(self, only: Mapping[str, tuple[Any, ...]]) -> None:
        """Refuse a folder that has its class compute as is not run.

        Args:
            only: keys of config.json -> the values that are run.

        Raises:
            UnsupportedError: a key has another one.
        """
        for name, values in only.items():
            found = self.spelled(name)
            if self.container.kind == "huggingface" and found is not None and found.value not in values:
                run = f"with {' or '.join(map(str, values))} alone" if values else "without it"
                raise UnsupportedError(
                    f"{found.key} is {str(found.value)[:60]}, and {self.architecture.name} is run {run}",
                    file=self.container.path,
                    remedy=NOT_RUN,
                )
