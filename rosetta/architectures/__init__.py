"""The architectures that rosetta runs: one module each, found by listing this package."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache, partial
from typing import TYPE_CHECKING

from rosetta.architectures.parts.architecture import (
    INTERLEAVED,
    SPLIT_HALF,
    Activation,
    Architecture,
    Default,
)
from rosetta.architectures.parts.huggingface import HuggingFace
from rosetta.architectures.parts.llamacpp import LlamaCpp
from rosetta.architectures.parts.not_run import not_run
from rosetta.containers.huggingface.settings import huggingface_architecture
from rosetta.containers.huggingface.text_part import text_config

if TYPE_CHECKING:
    from rosetta.containers.container import Container

__all__ = [
    "INTERLEAVED",
    "SPLIT_HALF",
    "Activation",
    "Architecture",
    "Default",
    "HuggingFace",
    "LlamaCpp",
    "all_architectures",
    "architecture_of",
    "find_architecture",
    "not_run",
]


@cache
def all_architectures() -> tuple[Architecture, ...]:
    """Every architecture, by name."""
    found = [one for module in pkgutil.iter_modules(__path__) for one in _of_module(module.name)]
    return tuple(sorted(set(found), key=lambda architecture: architecture.name))


def find_architecture(declared: str) -> Architecture | None:
    """The architecture that a file calls `declared` (a slug or a class name), or None."""
    # All of them take a moment to import, so that of its own name comes first.
    for architectures in (partial(_called_like, declared), all_architectures):
        for architecture in architectures():
            if declared.lower() == architecture.name or declared in architecture.classes:
                return architecture
    return None


def architecture_of(container: Container) -> Architecture | None:
    """The architecture that a container declares, or None: of several by one name that which it holds. Of a folder
    whose model also sees or hears, and has no architecture of its own here, that of its text part."""
    found = find_architecture(container.architecture) if container.architecture else None
    part = huggingface_architecture(text_config(container.metadata))
    found = found or (find_architecture(part) if part is not None else None)
    return None if found is None else found.variant(container.metadata) or found


def _called_like(declared: str) -> list[Architecture]:
    """The architectures of the module that has the name of a slug or a class; none where there is no such module."""
    slug = declared.lower().removesuffix("forcausallm").replace("-", "_")
    return _of_module(slug) if any(module.name == slug for module in pkgutil.iter_modules(__path__)) else []


def _of_module(name: str) -> list[Architecture]:
    loaded = importlib.import_module(f"{__name__}.{name}")
    return [value for value in vars(loaded).values() if isinstance(value, Architecture)]
