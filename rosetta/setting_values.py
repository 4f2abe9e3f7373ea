"""Canonical settings: each value with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


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
