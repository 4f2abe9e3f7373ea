"""Quantisation schemes that keep a weight in several tensors of a Hugging Face folder: codes, scales, zero points.

A scheme is one module here, found by listing the package. It has `METHODS`, the names that `quant_method` gives it, and
`packing(folder)`, which says which tensors of the folder belong together and how they are read. What it reads is a
`Packed`: values and their rounding side by side, for the rows asked for, in the arithmetic of the scheme's own library.
Where its tensors tell what they are without a config, `unstated(folder)` gives the configs that they may be read by.
Nothing here opens files.

Letters: R = rows (outputs), C = columns (inputs) of the weight, G = groups of columns that share a scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from rosetta.blocks.schemes.packed import Entry, Folder, OtherParts, Packed, Packing, Parts, PlacesOf, Way
from rosetta.blocks.schemes.rewriting import rewritten

__all__ = [
    "Entry",
    "Folder",
    "OtherParts",
    "Packed",
    "Packing",
    "Parts",
    "PlacesOf",
    "Way",
    "packing_of",
    "rewritten",
    "unstated_configs",
]


@cache
def _modules() -> dict[str, ModuleType]:
    found = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    return {method: module for module in found for method in getattr(module, "METHODS", ())}


def packing_of(folder: Folder) -> Packing:
    """How a folder's weights are packed.

    Raises:
        UnsupportedError: its scheme, or a field of it, is none that rosetta decodes.
        DamagedFileError: the tensors of a weight contradict each other.
    """
    modules = _modules()
    if folder.method not in modules:
        raise folder.unsupported(f"is quantised with {folder.method!r:.60}")
    found: Packing = modules[folder.method].packing(folder)
    return found


def unstated_configs(folder: Folder) -> Iterator[Mapping[str, Any]]:
    """The configs by which packed weights of a folder that states none may be read, by what its tensors are called."""
    for module in dict.fromkeys(_modules().values()):
        if hasattr(module, "unstated"):
            yield from module.unstated(folder)
