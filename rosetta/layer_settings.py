"""The settings of one layer, of a config whose values may differ from layer to layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rosetta.config import Config
from rosetta.errors import DamagedFileError
from rosetta.ops.op import Settings
from rosetta.setting_values import PerLayer


def settings_of(config: Config, layer: int | None, file: Path) -> Settings:
    """The settings of a layer, or of what stands outside the layers.

    Args:
        config: of the file.
        layer: counted from 0; None outside the layers.
        file: named where a setting is asked for that was not read.
    """
    of_layer = _OfLayer(
        (key, found.value.of(layer) if isinstance(found.value, PerLayer) else found.value)
        for key, found in config.items()
    )
    of_layer.file = file
    return of_layer


class _OfLayer(dict[str, Any]):
    """Settings of one layer; what is asked for and was not read is an error of the file."""

    file: Path

    def __missing__(self, key: str) -> Any:
        raise DamagedFileError(
            f"the config says nothing of {key}, which another of its settings calls for",
            file=self.file,
            remedy=f"state {key}, or what makes it needless",
        )
