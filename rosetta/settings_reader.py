"""Reads one container's settings one by one: counts and numbers held to sane sizes, each with where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from rosetta.architectures import Architecture, Default
from rosetta.containers.container import Container, Setting
from rosetta.containers.huggingface.silent_keys import is_silent
from rosetta.containers.huggingface.text_part import own_key, tables
from rosetta.containers.values import WRONG_VALUE
from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.settings_table import SETTINGS

LARGEST_COUNT = 1 << 31  # of any size in a config: what an int32 tensor index can hold
LARGEST_NUMBER = float(np.finfo(np.float32).max)
NOT_RUN = "rosetta does not run such a model; ask for it, with the file's config"
# fmt: off
NONE_IN_GGUF = frozenset((
    "attention.scale", "attention.value_scale", "embedding_scale", "residual_scale", "logit_scale",
    "attention.key_length_mla", "attention.value_length_mla", "expert_gating_func",
))
# fmt: on
"""Settings whose 0 llama.cpp takes for none (llama-hparams.h): it writes it where a model has none of its own."""
UNSAID = {
    "rope.scaling.yarn_beta_fast": 32.0,
    "rope.scaling.yarn_beta_slow": 1.0,
    "rope.partial_rotary_factor": 1.0,
}
"""What a loader takes where it does not read a key that is no setting of ours (llama.cpp, llama-hparams.h;
transformers' classes that rotate whole heads)."""
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


@dataclass(frozen=True)
class Value:
    """One canonical setting: `key` is the file's own spelling; None where the value is a default (`note`: whose).

    `asked` are the file's keys that would say it, and that were looked for: a default follows from their absence."""

    value: Any
    key: str | None = None
    note: str = ""
    asked: tuple[str, ...] = field(default=(), compare=False)

    @property
    def defaulted(self) -> bool:
        return self.key is None


class PerLayer(tuple[Any, ...]):
    """A setting that has a value for each layer."""

    def of(self, layer: int | None) -> Any:
        """The layer's value; outside the layers, and behind the last one, that of the nearest."""
        return self[min(layer or 0, len(self) - 1)]


def float32(value: Any) -> Any:
    """A float as float32 has it; anything else as it is."""
    return float(np.float32(value)) if isinstance(value, float) else value


Config = Mapping[str, Value]


def listed(config: Config, key: str) -> list[Any]:
    """A setting's value in each layer."""
    value = config[key].value
    return list(value) if isinstance(value, PerLayer) else [value] * config["block_count"].value


def _says_nothing(value: Any) -> bool:
    """Whether a value is what a key says where nothing is to be computed otherwise."""
    return value is None or value is False or value in (0, "", [], {})


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


class SettingsReader:
    """Reads one container's settings into canonical values; `overrides` (a repair's) win over the file."""

    def __init__(
        self, container: Container, architecture: Architecture, overrides: Mapping[str, Any]
    ) -> None:
        self.container, self.architecture, self.overrides = container, architecture, overrides
        self.config: dict[str, Value] = {}
        self._asked: set[str] = set()
        self._names: set[str] = set()  # of config.json, that were asked for by these
        self._looked: tuple[str, ...] = ()  # the keys that were asked for, since a setting was put
        self._before: tuple[str, ...] = ()  # and those before, where several settings follow from them
        # Usual keys of config.json that its class does not read, and that differ.
        self._denied: dict[str, Setting] = {}

    def unheeded(self) -> tuple[Setting, ...]:
        """What the file states of the forward pass, and nothing asked for: it is not computed."""
        # Writers of .apr state a rotation of models that have none.
        without_rotary = self.architecture.rope is None and self.container.kind == "apr"
        stated = (
            setting
            for key, setting in self.container.settings.items()
            if key not in self._asked
            and not self._says_what_is_computed(key, setting.value)
            and self._own(setting) not in self._names | self.architecture.huggingface.idle
            and not (without_rotary and key.startswith("rope."))
        )
        left = (setting for setting in (*stated, *self._unknown()) if not _says_nothing(setting.value))
        denied = (setting for setting in self._denied.values() if setting.value is not None)
        return tuple({setting.key: setting for setting in (*left, *denied)}.values())

    def _says_what_is_computed(self, key: str, value: Any) -> bool:
        """Whether a key that its container's loader does not read says what is computed anyway."""
        if not self._is_unread(key):
            return False
        computed = self.config[key].value if key in self.config else UNSAID.get(key)
        return bool((list(computed) if isinstance(computed, PerLayer) else computed) == float32(value))

    def _unknown(self) -> Iterator[Setting]:
        """What config.json states under keys that neither all architectures nor this one is read by."""
        if self.container.kind != "huggingface":
            return
        said = self.architecture.huggingface
        known = self._names | said.idle | said.flags.keys()
        tables = {name.partition(".")[0] for name in known if "." in name}
        source, prefix = self._sources()[0]  # what stands outside of a text's own keys is of the rest
        for name, value in source.items():
            if name in known or is_silent(name) or self._says_anyway(name, value):
                continue
            if name in tables and isinstance(value, Mapping):
                inner = {f"{name}.{key}": held for key, held in value.items()}
                yield from (Setting(v, prefix + k) for k, v in inner.items() if k not in known)
            else:
                yield Setting(value, prefix + name)

    def _says_anyway(self, name: str, value: Any) -> bool:
        """Whether a key that the class does not read says what it computes anyway."""
        says = self.architecture.huggingface.says_anyway
        return name in says and says[name] == value

    def _sources(self) -> list[tuple[Mapping[str, Any], str]]:
        """The tables of keys that hold, the first before the second, and what stands before their keys."""
        return [*tables(self.container.metadata)]

    def _own(self, setting: Setting) -> str:
        """A setting's key, without the table that it may stand in."""
        return own_key(self.container.metadata, setting.key)

    def stated(self, prefix: str) -> dict[str, Any]:
        """All that the file states under keys that begin so."""
        found = {k: setting.value for k, setting in self.container.settings.items() if k.startswith(prefix)}
        found = {key: value for key, value in found.items() if not self._is_unread(key)}
        self._asked.update(found)
        return found

    def heeds(self, key: str) -> bool:
        """Whether a setting was asked for."""
        return key in self._asked

    def raw(self, key: str) -> Setting | None:
        if key in self.overrides:
            self._asked.add(key)
            return Setting(self.overrides[key], key)
        if self._is_unread(key):
            return None
        self._asked.add(key)
        if self.container.kind == "gguf":
            self._looked += (f"{self.container.architecture}.{key}",)
        setting = self._under_own_key(key) or self.container.settings.get(key)
        if setting is None or setting.value is None or self._is_none(key, setting.value):
            return None
        return setting

    def look_for(self, name: str) -> Any:
        """What the file states under a key that no architecture's name stands before; None: nothing."""
        self._looked = (*self._looked, name)
        return self.container.metadata.get(name)

    def _is_none(self, key: str, value: Any) -> bool:
        """Whether the container's own loader takes a number for none."""
        return self.container.kind == "gguf" and key in NONE_IN_GGUF and value == 0

    def _under_own_key(self, key: str) -> Setting | None:
        """What a folder states of a setting under the key that its class has of its own: that one is read, whatever
        the usual keys say."""
        own = self.architecture.huggingface.spellings.get(key)
        if own is None or self.container.kind != "huggingface":
            return None
        usual, found = self.container.settings.get(key), self.spelled(own)
        if found is None or usual is None:
            return found
        if self._own(usual) in self.architecture.huggingface.spellings.values():
            return None if usual.key == found.key else found  # it is another setting's own
        if usual.value != found.value:
            self.deny(usual)
        return found

    def _under_canonical_key(self, key: str) -> Setting | None:
        """What an `.apr` states under GGUF's key of a setting that neither the format nor config.json has one for."""
        if self.container.kind != "apr":
            return None
        self._looked += (key,)
        value = self.container.metadata.get(key)
        return None if value is None else Setting(value, key)

    def deny(self, setting: Setting) -> None:
        """Note what a file states and another of its keys, or its architecture, denies."""
        self._denied[setting.key] = setting

    def _is_unread(self, key: str) -> bool:
        """Whether the container's own loader computes one way, whatever the file says under a key."""
        if self.container.kind == "gguf":
            return not self.architecture.llamacpp.computes_by(key)
        if self.container.kind != "huggingface":
            return False
        said, stated = self.architecture.huggingface, self.container.settings.get(key)
        if stated is None or key in said.spellings:
            return key in said.unread
        return key in said.unread or not said.asks_for(self._own(stated).rpartition(".")[2])

    def _would_say(self, key: str) -> tuple[str, ...]:
        """The file's keys that were asked for before a setting was put, its class's own first."""
        self._before, self._looked = self._looked or self._before, ()
        own = (
            self.architecture.huggingface.spellings.get(key) if self.container.kind == "huggingface" else None
        )
        return tuple(dict.fromkeys(((own,) if own else ()) + self._before))

    def scaling_table(self) -> Setting | None:
        """What states rope scaling in a table: the file's, or its class's own where a folder has no table at all."""
        own = self.architecture.huggingface.defaults.get("rope.scaling")
        stated = self.container.settings.get("rope.scaling")
        if self.container.kind != "huggingface" or own is None or stated is not None:
            return stated
        return None if self.spelled("rope_parameters", "rope_scaling") else Setting(own, "")

    def own_table(self) -> Mapping[str, Any]:
        """The class's own table of rotary parameters, where a folder has none; else an empty one."""
        table = self.scaling_table()
        return table.value if table is not None and not table.key else {}

    def put(self, key: str, setting: Setting | None, default: Any, note: str = "") -> Any:
        """Store the setting, or the default with its note; required where the default is None."""
        named = self._looked
        asked = self._would_say(key)
        if setting is not None:
            self._refuse_text(key, setting)
            self.config[key] = Value(setting.value, setting.key)
        elif default is not None:
            self.config[key] = Value(default, None, note, asked)
        else:
            raise DamagedFileError(
                f"the metadata has no {' or '.join(named) or key}",
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
            raise DamagedFileError(
                f"{setting.key} is {str(setting.value)[:60]!r}, not {REAL[row.value][0]}",
                file=self.container.path,
                remedy=WRONG_VALUE,
            )

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
            default = float(np.float32(default)) if kind == "number" and default is not None else default
        unread = ""
        if setting is None and self._is_unread(key):
            unread, stated = (
                "llama.cpp does not read it of this architecture",
                self.container.settings.get(key),
            )
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

    def spelled(self, *spellings: str) -> Setting | None:
        """The first of these keys of config.json, or of an `.apr`'s metadata, that is there and not null."""
        self._names.update(spellings)
        if self.container.kind != "gguf":  # which has none of these
            self._looked += spellings
        for source, prefix in self._sources():
            for spelling in spellings:
                found: Any = source
                for part in spelling.split("."):
                    found = found.get(part) if isinstance(found, Mapping) else None
                if found is not None:
                    return Setting(found, prefix + spelling)
        return None

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
            raise DamagedFileError(
                f"{setting.key} is {str(value)[:60]}, not {noun}",
                file=self.container.path,
                remedy=WRONG_VALUE,
            )
        return self._plain(value, kind)

    @staticmethod
    def _plain(value: Any, kind: Kind) -> Any:
        return float(np.float32(value)) if kind == "number" else bool(value) if kind == "flag" else value

    def counts(self, key: str, default: int | None, note: str = "") -> Any:
        """A size that may be another one in each layer; 0 in layers that have none of it."""
        setting = self.raw(key)
        value = None if setting is None else setting.value
        if setting is not None and isinstance(value, list | tuple) and any(v != value[0] for v in value):
            return self.put(key, Setting(self._of_kind(setting, "count"), setting.key), None)
        return self.count(key, default, note)

    def count(self, key: str, default: int | None, note: str = "") -> int:
        setting, largest = self.raw(key), largest_count(key)
        if setting is not None and isinstance(setting.value, PerLayer):  # a repair's
            self.put(key, setting, None)
            return self.size(key)
        if setting is not None:
            value = setting.value
            if isinstance(value, list) and value and all(v == value[0] for v in value):
                value = value[0]  # a size per layer, the same in all
            if isinstance(value, list):
                raise UnsupportedError(
                    f"{setting.key} differs from layer to layer", file=self.container.path, remedy=NOT_RUN
                )
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= largest:
                raise DamagedFileError(
                    f"{setting.key} is {value!r}, not a count between 1 and {largest}",
                    file=self.container.path,
                    remedy=WRONG_VALUE,
                )
            setting = Setting(value, setting.key)
        return int(self.put(key, setting, default, note))

    def size(self, key: str) -> int:
        """A count that was read; where each layer has its own, that of the first."""
        value = self.config[key].value
        return int(value.of(0) if isinstance(value, PerLayer) else value)

    def number(self, key: str, default: float | None, note: str = "") -> float:
        setting = self.raw(key)
        if setting is not None and isinstance(setting.value, PerLayer):  # a repair's
            self.put(key, setting, None)
            return float(max(setting.value))
        if setting is not None:
            value = setting.value
            if isinstance(value, list):
                raise UnsupportedError(
                    f"{setting.key} differs from layer to layer", file=self.container.path, remedy=NOT_RUN
                )
            real = isinstance(value, int | float) and not isinstance(value, bool)
            if not real or not abs(value) <= LARGEST_NUMBER:
                raise DamagedFileError(
                    f"{setting.key} is {value!r}, not a finite number",
                    file=self.container.path,
                    remedy=WRONG_VALUE,
                )
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

    def says_null(self, name: str) -> bool:
        """Whether config.json says null, which is another thing than saying nothing."""
        self._names.add(name)
        self._looked += (name,)
        source = next((table for table, _ in self._sources() if name in table), {})
        return name in source and source[name] is None
