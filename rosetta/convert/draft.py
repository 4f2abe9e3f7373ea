"""A file that is not written yet, as a reader will have it: what it would make of tensors and settings.

Writing is reading turned round: what the declarations of an architecture say of a stored tensor or of a stated setting
is asked of a draft, and what comes out is held to what ought to come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.container import ContainerDefaults, Setting, TensorEntry

LABELS = {"gguf": "GGUF", "huggingface": "HF", "apr": "APR"}


@dataclass(frozen=True)
class Draft(ContainerDefaults):
    """A container without data, but for that of tensors that state settings.

    Args:
        path: what it will be called.
        kind: `apr`, `gguf` or `huggingface`.
        metadata, settings, tensors: as they will be read.
        architecture: as it will be declared.
        data: of the tensors that state settings.
    """

    path: Path
    kind: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    tensors: Mapping[str, TensorEntry] = field(default_factory=dict)
    architecture: str | None = None
    file_bytes: int = 0
    notes: tuple[str, ...] = ()
    data: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """See `Container.label`."""
        return LABELS[self.kind]

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """The bytes of a tensor that states a setting.

        Raises:
            NotImplementedError: it is none of these: there is nothing yet.
        """
        if name in self.data:
            return self.data[name][start : None if nbytes is None else start + nbytes]
        raise NotImplementedError(f"{self.path} is not written yet")

    def close(self) -> None:
        """Nothing is open."""
