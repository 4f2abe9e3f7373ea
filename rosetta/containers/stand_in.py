"""A container that is read in the place of another one, of which it says some things otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.container import Container, ContainerDefaults, Setting, TensorEntry


class StandIn(ContainerDefaults):
    """Everything that a subclass does not change is the other container's, which its opener closes.

    Args:
        original: that it stands for.
    """

    def __init__(self, original: Container) -> None:
        self.original = original
        self.kind, self.label, self.path = original.kind, original.label, original.path
        self.architecture, self.file_bytes = original.architecture, original.file_bytes
        self.metadata: Mapping[str, Any] = original.metadata
        self.settings: Mapping[str, Setting] = original.settings
        self.tensors: Mapping[str, TensorEntry] = original.tensors
        self.notes = original.notes
        self.transposed_linears = original.transposed_linears

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`."""
        return self.original.read(name, start, nbytes)

    def close(self) -> None:
        """Nothing: see the class."""
