"""The architectures that rosetta runs: one module each, found by listing this package."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from rosetta.architectures.architecture import INTERLEAVED, SPLIT_HALF, Activation, Architecture, Default
from rosetta.architectures.not_run import not_run

__all__ = [
    "INTERLEAVED",
    "SPLIT_HALF",
    "Activation",
    "Architecture",
    "Default",
    "all_architectures",
    "find_architecture",
    "not_run",
]


@cache
def all_architectures() -> tuple[Architecture, ...]:
    """Every architecture, by name."""
    found = []
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        found += [value for value in vars(loaded).values() if isinstance(value, Architecture)]
    return tuple(sorted(set(found), key=lambda architecture: architecture.name))


def find_architecture(declared: str) -> Architecture | None:
    """The architecture that a file calls `declared` (a slug or a class name), or None."""
    for architecture in all_architectures():
        if declared.lower() == architecture.name or declared in architecture.classes:
            return architecture
    return None
