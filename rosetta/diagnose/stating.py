"""A file as it would be read if it stated something else."""

from __future__ import annotations

from collections.abc import Mapping

from rosetta.containers.container import Container, Setting
from rosetta.containers.stand_in import StandIn


class Stating(StandIn):
    """A container that states some settings more; of its tensors there is what headers say.

    Args:
        container: that it stands for.
        settings: what it states more, or otherwise.
        without: how settings begin of which it states none but these.
    """

    def __init__(
        self, container: Container, settings: Mapping[str, Setting], without: str | None = None
    ) -> None:
        super().__init__(container)
        kept = {
            key: said
            for key, said in container.settings.items()
            if without is None or not key.startswith(without)
        }
        prefix = f"{container.architecture}."
        self.notes, self.settings = (), {**kept, **settings}
        self.metadata = {**container.metadata, **{prefix + key: said.value for key, said in settings.items()}}
