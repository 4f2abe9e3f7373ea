"""Where an operand lies: a path of this machine, or a place that it names and that is resolved to one.

A kind of place is a module in this package that has `locate(operand)`: the path, or None where the text names none of
its kind. Nothing else needs to know of it.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from rosetta.errors import UsageError
from rosetta.sources.remote_path import RemotePath

__all__ = ["RemotePath", "located", "located_here", "names_place"]


class _Source(Protocol):
    def locate(self, operand: str) -> Path | None: ...
    def names_place(self, operand: str) -> bool: ...


def located(operand: str | Path) -> Path:
    """The path that an operand means; as it is where it names no other place.

    Raises:
        RosettaError: the place that it names cannot be reached, or there is nothing.
    """
    if isinstance(operand, Path):
        return operand
    if not os.path.lexists(operand):
        for source in _sources():
            if source.names_place(operand) and (path := source.locate(operand)) is not None:
                return path
    return Path(operand)


def located_here(operand: str | Path, what: str) -> Path:
    """The path that an operand means, which must lie on this machine.

    Args:
        what: what needs it here: `llamacpp`.

    Raises:
        UsageError: it is read from afar.
    """
    path = located(operand)
    if isinstance(path, RemotePath):
        raise UsageError(
            f"{what} takes what lies on this machine", file=path, remedy="download it, and give the path"
        )
    return path


def names_place(operand: str) -> bool:
    """Whether a text names a place that is resolved, of any kind, and is no path by itself."""
    return not os.path.lexists(operand) and any(source.names_place(operand) for source in _sources())


@cache
def _sources() -> tuple[_Source, ...]:
    modules = (
        importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
    )
    return tuple(cast(_Source, module) for module in modules if hasattr(module, "locate"))
