"""Reads one container's settings one by one: counts and numbers held to sane sizes, each with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rosetta.architectures import Architecture
from rosetta.containers.container import Container, Setting
from rosetta.containers.values import WRONG_VALUE
from rosetta.errors import DamagedFileError, UnsupportedError

LARGEST_COUNT = 1 << 31  # of any size in a config: what an int32 tensor index can hold
LARGEST_NUMBER = float(np.finfo(np.float32).max)
NOT_RUN = "rosetta does not run such a model; ask for it, with the file's config"
LARGEST_BLOCK_COUNT = 4096  # no published model has a tenth of it; a damaged count must not cost minutes


@dataclass(frozen=True)
class Value:
    """One canonical setting: `key` is the file's own spelling; None where the value is a default (`note`: whose)."""

    value: Any
    key: str | None = None
    note: str = ""

    @property
    def defaulted(self) -> bool:
        return self.key is None


Config = Mapping[str, Value]


class SettingsReader:
    """Reads one container's settings into canonical values; `overrides` (a repair's) win over the file."""

    def __init__(
        self, container: Container, architecture: Architecture, overrides: Mapping[str, Any]
    ) -> None:
        self.container, self.architecture, self.overrides = container, architecture, overrides
        self.config: dict[str, Value] = {}

    def raw(self, key: str) -> Setting | None:
        if key in self.overrides:
            return Setting(self.overrides[key], key)
        setting = self.container.settings.get(key)
        return None if setting is None or setting.value is None else setting

    def put(self, key: str, setting: Setting | None, default: Any, note: str = "") -> Any:
        """Store the setting, or the default with its note; required where the default is None."""
        if setting is not None:
            self.config[key] = Value(setting.value, setting.key)
        elif default is not None:
            self.config[key] = Value(default, None, note)
        else:
            raise DamagedFileError(
                f"the metadata has no {key}",
                file=self.container.path,
                remedy="export the model again with a complete configuration",
            )
        return self.config[key].value

    def count(self, key: str, default: int | None, note: str = "", largest: int = LARGEST_COUNT) -> int:
        setting = self.raw(key)
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

    def number(self, key: str, default: float | None, note: str = "") -> float:
        setting = self.raw(key)
        if setting is not None:
            value = setting.value
            real = isinstance(value, int | float) and not isinstance(value, bool)
            if not real or not abs(value) <= LARGEST_NUMBER:
                raise DamagedFileError(
                    f"{setting.key} is {value!r}, not a finite number",
                    file=self.container.path,
                    remedy=WRONG_VALUE,
                )
            setting = Setting(float(np.float32(value)), setting.key)
        return float(self.put(key, setting, None if default is None else float(np.float32(default)), note))

    def says_null(self, name: str) -> bool:
        """Whether config.json says null, which is another thing than saying nothing."""
        return name in self.container.metadata and self.container.metadata[name] is None
