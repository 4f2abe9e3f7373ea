"""A file as it would be read if it stated something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rosetta.containers.container import Container, Setting, TensorEntry


class Stating:
    """A container that states some settings more; of its tensors there is what headers say.

    Args:
        container: that it stands for.
        settings: what it states more, or otherwise.
        without: how settings begin of which it states none but these.
    """

    def __init__(
        self, container: Container, settings: Mapping[str, Setting], without: str | None = None
    ) -> None:
        self._container = container
        self.kind, self.label, self.path = container.kind, container.label, container.path
        self.architecture, self.file_bytes, self.notes = container.architecture, container.file_bytes, ()
        self.tensors: Mapping[str, TensorEntry] = container.tensors
        kept = {
            key: said
            for key, said in container.settings.items()
            if without is None or not key.startswith(without)
        }
        self.settings: Mapping[str, Setting] = {**kept, **settings}
        prefix = f"{container.architecture}."
        self.metadata = {**container.metadata, **{prefix + key: said.value for key, said in settings.items()}}

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> Any:
        """See `Container.read`."""
        return self._container.read(name, start, nbytes)

    def close(self) -> None:
        """The container that it stands for is closed by who opened it."""
