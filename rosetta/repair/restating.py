"""Settings that a config states in a form of its own: found by reading what is about to be written.

A list of layer types, a ratio of two sizes, a flag in an inner table: each key that the file has, and each that a
reader asks for, is tried with what it may have to say, and kept where the reader then comes to the repaired settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rosetta.compare.other_forms import forms_of, ways_to_say
from rosetta.compare.settings import agree, comes_out
from rosetta.config import Config
from rosetta.containers.apr.settings import apr_architecture, apr_settings
from rosetta.containers.container import TensorEntry
from rosetta.containers.huggingface.settings import huggingface_architecture, huggingface_settings
from rosetta.diagnose.own_form import has_parent, in_own_form, path_of, would_say
from rosetta.errors import RosettaError
from rosetta.model import build_model
from rosetta.repair.changes import ABSENT, Change, said
from rosetta.repair.fix import Fix
from rosetta.repair.layout import Extended
from rosetta.repair.settings import Settings, Table
from rosetta.settings_table import is_order_only

Path = tuple[str, ...]
# Stated as a whole, or by the architecture.
UNSAYABLE = frozenset({"architecture", "norm_type", "rope.scaling"})


def state_settings(file: Settings, fix: Fix) -> list[str]:
    """State the repaired settings; returns those that the file has no place for."""
    if not fix.settings:
        return []
    said_already = _as_told(file, fix) if file.kind == "huggingface" else set()
    plain = {key: value for key, value in fix.settings.items() if key not in said_already}
    unsaid = file.write(plain)
    left = _restate(file, fix)
    file.stated()
    return sorted({*left, *(key for key in unsaid if key in UNSAYABLE)})


def _as_told(file: Settings, fix: Fix) -> set[str]:
    """State what has a key and a form of the class's own as a person is told to; returns the settings that are said
    then, those among them that follow from such a key."""
    reader, told = _Reader(file, fix), False
    for key, value in fix.settings.items():
        if key in UNSAYABLE or (told and key not in reader.missing()):
            continue
        form = in_own_form(fix.base, key, fix.base.config.get(key), value)
        if form is None:
            continue
        spelled, _, wanted = form
        path = path_of(fix.base.container, spelled)
        if has_parent(file.metadata, path):
            shown = ".".join(path[:-1])
            file.assign(f"{shown}." if shown else "", _parent(file.metadata, path), path[-1], wanted)
            told = True
    return fix.settings.keys() - reader.missing() if told else set()


def _restate(file: Settings, fix: Fix) -> list[str]:
    """State what the plain keys do not say; returns what a reader of the file will still not find."""
    reader = _Reader(file, fix)
    missing, plain_keys = reader.missing(), list(file.fresh)
    for key in sorted(missing - UNSAYABLE):
        for path, value in _ways(reader, key) if key in missing else ():
            table, before = _parent(file.metadata, path), reader.value(path)
            table[path[-1]] = value
            left = reader.missing()
            if left < missing:
                file.changes.append(Change(".".join(path), before, said(value)))
                missing = left
                break
            _put_back(table, path[-1], reader.original(path))
    for table, name, change in plain_keys:  # that no reader heeds
        value = table.pop(name, None)
        if reader.missing() == missing and change in file.changes:
            file.changes.remove(change)
        else:
            table[name] = value
    return sorted(missing & fix.settings.keys())


class _Reader:
    """Reads the config as it stands, for the tensors that the repaired file will have."""

    def __init__(self, file: Settings, fix: Fix) -> None:
        self.file, self.fix, self.wanted = file, fix, fix.repaired.config
        self.asked: dict[Path, None] = {}
        self.tensors = {
            planned.name: planned.original
            or TensorEntry(planned.name, "F32", planned.held[0].weight.dims, 4 * planned.held[0].weight.count)
            for planned in fix.layout.tensors
        }

    def missing(self) -> set[str]:
        """Settings that a reader will not find as they are repaired, or as they were where they were right."""
        try:
            found = self._config()
        except RosettaError:
            return set(self.wanted)
        base = self.fix.base.config
        return {
            key
            for key, value in self.wanted.items()
            if not is_order_only(key)
            and (key in self.fix.settings or (key in base and agree(key, base[key].value, value.value)))
            and not comes_out(key, value.value, found)
        }

    def _config(self) -> Config:
        original, metadata = self.fix.base.container, _Asked(self.file.stated(), (), self.asked)
        extended = Extended(original, {})
        extended.tensors, extended.metadata = self.tensors, metadata
        if self.file.kind == "apr":
            extended.settings = apr_settings(original.path, metadata, lambda note: None)
            extended.architecture = apr_architecture(original.path, metadata)
        else:
            extended.settings = huggingface_settings(original.path, metadata)
            extended.architecture = huggingface_architecture(metadata)
        return build_model(extended).config

    def value(self, path: Path) -> str:
        """What the file says at a place, in words."""
        held = self.original(path)
        return ABSENT if held is _NOTHING else said(held)

    def original(self, path: Path) -> Any:
        """What the file to be repaired says at a place."""
        held: Any = self.fix.base.container.metadata
        for name in path:
            held = held.get(name, _NOTHING) if isinstance(held, Mapping) else _NOTHING
        return held


_NOTHING = object()


class _Asked(dict[str, Any]):
    """An object that notes which of its keys are asked for, and of the objects in it."""

    def __init__(self, values: Mapping[str, Any], path: Path, asked: dict[Path, None]) -> None:
        inner = {
            key: _Asked(value, (*path, key), asked) if isinstance(value, dict) else value
            for key, value in values.items()
        }
        super().__init__(inner)
        self._path, self._asked = path, asked

    def get(self, key: str, default: Any = None) -> Any:
        """See `dict.get`."""
        self._asked[(*self._path, key)] = None
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._asked[(*self._path, str(key))] = None
        return super().__contains__(key)


def _ways(reader: _Reader, key: str) -> Iterator[tuple[Path, Any]]:
    """Places of the file and what each might say: first those that a person is told of, then those that it has, the one
    that it says the setting in above all."""
    held = dict(_leaves(reader.file.metadata))
    base, wanted = reader.fix.base.config, reader.wanted
    own = (base[key].key or "").split(".") if key in base else [""]
    told = [
        path_of(reader.fix.base.container, name) for name in would_say(reader.fix.base, key, base.get(key))
    ]
    ordered = [*told, *sorted(held, key=lambda path: list(path) != own and path[-1] != own[-1])]
    absent = [path for path in reader.asked if path not in held and has_parent(reader.file.metadata, path)]
    value = wanted[key].value
    before = base[key].value if key in base else None
    forms = forms_of(reader.fix.repaired.architecture)
    for path in dict.fromkeys([*ordered, *absent]):
        if not has_parent(reader.file.metadata, path):
            continue
        for said_there in ways_to_say(path[-1], held.get(path), wanted, value, before, forms):
            if said_there != held.get(path):
                yield path, said_there


def _leaves(table: Mapping[str, Any], outer: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*outer, key))
        elif not key.startswith("tokenizer."):
            yield (*outer, key), value


def _parent(table: Table, path: Path) -> Table:
    for name in path[:-1]:
        table = table[name]
    return table


def _put_back(table: Table, name: str, value: Any) -> None:
    if value is _NOTHING:
        del table[name]
    else:
        table[name] = value
