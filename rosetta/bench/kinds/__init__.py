"""The kinds of fault that are planted, by finding kind: each module's `KINDS` maps a kind to how it is drawn.

A drawer takes a generator and the pair, and gives the planted fault with what must be found; it raises `NotHere`
where this pair cannot have the fault. Adding a kind is adding it to one module's table.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module

from numpy.random import Generator

from rosetta.bench.case import Plant, Subject

Drawer = Callable[[Generator, Subject], Plant]


def all_kinds() -> Mapping[str, Drawer]:
    """Every kind and its drawer, module by module."""
    kinds: dict[str, Drawer] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if not module.name.startswith("_"):
            kinds |= import_module(f"{__name__}.{module.name}").KINDS
    return kinds
