"""Looks up what one container states of each setting, and keeps account of what was asked for and what was not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rosetta.architectures import Architecture
from rosetta.containers.container import Container, Setting
from rosetta.containers.huggingface.silent_keys import is_silent
from rosetta.containers.huggingface.text_part import own_key, tables
from rosetta.setting_values import PerLayer, Value, float32

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


def _says_nothing(value: Any) -> bool:
    """Whether a value is what a key says where nothing is to be computed otherwise."""
    return value is None or value is False or value in (0, "", [], {})


class SettingLookup:
    """The settings that a container states, each under whichever key says it; a repair's `overrides` win over the file.

    What is never asked for is not computed: `unheeded` tells it at the end.
    """

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

    def heeds(self, key: str) -> bool:
        """Whether a setting was asked for."""
        return key in self._asked

    def raw(self, key: str) -> Setting | None:
        """What the file states of a canonical setting, as it stands there; None where its loader would read nothing."""
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

    def aside(self, key: str) -> Setting | None:
        """What a folder states of a setting that its class has no key of, for another part of it that asks for the
        same key of config.json."""
        setting = self.container.settings.get(key)
        if setting is None or not self.architecture.huggingface.asks_for(self._own(setting)):
            return None
        self._names.add(self._own(setting))
        return setting

    def look_for(self, name: str) -> Any:
        """What the file states under a key that no architecture's name stands before; None: nothing."""
        self._looked = (*self._looked, name)
        return self.container.metadata.get(name)

    def stated(self, prefix: str) -> dict[str, Any]:
        """All that the file states under keys that begin so."""
        found = {k: setting.value for k, setting in self.container.settings.items() if k.startswith(prefix)}
        found = {key: value for key, value in found.items() if not self._is_unread(key)}
        self._asked.update(found)
        return found

    def says_null(self, name: str) -> bool:
        """Whether config.json says null, which is another thing than saying nothing."""
        self._looked += (name,)
        source = next((table for table, _ in self._sources() if name in table), {})
        null = name in source and source[name] is None
        if null:
            self._names.add(name)
        return null

    def deny(self, setting: Setting) -> None:
        """Note what a file states and another of its keys, or its architecture, denies."""
        self._denied[setting.key] = setting

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
