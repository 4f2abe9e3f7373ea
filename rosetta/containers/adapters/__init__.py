"""A base with an adapter, opened side by side: `peft:BASE+ADAPTER`, `lora:BASE+ADAPTER.gguf`.

A kind of adapter is a module of this package that has `PREFIX`, what stands before its operands, `FORM`, how such an
operand is written, and `open(path)`, which gives an `Adapter`. What an adapter makes of its base's weights is worked
out where these have their canonical names (`rosetta.adapted`).
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from rosetta.containers.adapters.adapter import AdaptedContainer, Adapter, Factor, Module
from rosetta.containers.container import StoredContainer
from rosetta.errors import UsageError

__all__ = ["AdaptedContainer", "Adapter", "Factor", "Module", "base_of", "names_adapter", "open_adapted"]


class _Kind(Protocol):
    PREFIX: str
    FORM: str

    def open(self, path: Path) -> Adapter: ...


def names_adapter(operand: str) -> bool:
    """Whether an operand is a base and an adapter."""
    return _kind_of(operand) is not None


def base_of(operand: str) -> str:
    """An operand without what says that an adapter follows its base; any other as it is."""
    kind = _kind_of(operand)
    return operand if kind is None else operand.removeprefix(kind.PREFIX)


def open_adapted(operand: str, open_base: Callable[[str], StoredContainer]) -> AdaptedContainer:
    """The base and the adapter of an operand.

    Args:
        operand: the whole of it, one that `names_adapter`.
        open_base: opens any container.

    Raises:
        RosettaError: either is missing, damaged or unsupported.
    """
    kind = _kind_of(operand)
    assert kind is not None
    base, path = _parts(operand, kind)
    adapter = kind.open(path)
    try:
        return AdaptedContainer(open_base(base), adapter)
    except BaseException:
        adapter.stored.close()
        raise


def _parts(operand: str, kind: _Kind) -> tuple[str, Path]:
    """(base, adapter): cut at the plus sign on both sides of which there is something, for paths may have some, too."""
    pieces = operand.removeprefix(kind.PREFIX).split("+")
    cuts = [("+".join(pieces[:n]), "+".join(pieces[n:])) for n in range(1, len(pieces))]
    cuts = [(base, adapter) for base, adapter in cuts if base and adapter]
    if not cuts:
        raise UsageError("does not name a base and an adapter", file=operand, remedy=kind.FORM)
    there = (cut for cut in cuts if os.path.exists(cut[1]) and os.path.exists(cut[0]))
    base, adapter = next(there, cuts[-1])
    return base, Path(adapter)


def _kind_of(operand: str) -> _Kind | None:
    return next((kind for kind in _kinds() if operand.startswith(kind.PREFIX)), None)


@cache
def _kinds() -> tuple[_Kind, ...]:
    names = (module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return tuple(cast(_Kind, module) for module in modules if hasattr(module, "PREFIX"))
