"""Opens a model file or folder as a Container, recognised by its content and never by its name.

A format is a package in this one, or a module where that is enough, that has `recognises(path, head)` and `open(path)`;
nothing else needs to know of it. Its `writer` is the only one that writes the format.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from rosetta.containers.adapters import names_adapter, open_adapted
from rosetta.containers.container import Container, Setting, StoredContainer, TensorEntry, TensorInput
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.foreign import (
    refusal_of_adapted,
    refusal_of_file,
    refusal_of_folder,
    refusal_of_missing,
)
from rosetta.sources import RemotePath, located
from rosetta.sources.places import is_folder, is_nowhere

__all__ = [
    "Container",
    "Setting",
    "StoredContainer",
    "TensorEntry",
    "TensorInput",
    "open_container",
    "open_operand",
]

_HEAD = 64  # bytes that a container may judge by


class _Opener(Protocol):
    def recognises(self, path: Path, head: bytes) -> bool: ...
    def open(self, path: Path) -> StoredContainer: ...


def open_operand(operand: str | Path) -> StoredContainer:
    """Open what a command may be given where no file is written: a model, or a base and an adapter.

    Raises:
        RosettaError: see `open_container` and `open_adapted`.
    """
    text = "" if isinstance(operand, RemotePath) else str(operand)
    return open_adapted(text, open_container) if names_adapter(text) else open_container(operand)


def open_container(path: str | Path) -> StoredContainer:
    """Open a model lazily: metadata and tensor index are read, tensor data when it is asked for.

    Args:
        path: an `.apr` or GGUF file (any shard of a split one), or a Hugging Face folder; as text also a place that
            is resolved to one, see `rosetta.sources`.

    Raises:
        UsageError: there is no such file or folder, or it is given in the wrong form.
        UnsupportedError: something that rosetta does not read, named.
        DamagedFileError: the file contradicts its own format.
    """
    path = located(path)
    folder, head = is_folder(path), b""
    if not folder and is_nowhere(path):
        raise refusal_of_adapted(path) if names_adapter(path.as_posix()) else refusal_of_missing(path)
    if not folder:
        file = FileBytes(path)
        head = file.bytes(0, min(_HEAD, file.size))
        file.close()
    for opener in _openers():
        if opener.recognises(path, head):
            return opener.open(path)
    raise refusal_of_folder(path) if folder else refusal_of_file(path, head)


@cache
def _openers() -> tuple[_Opener, ...]:
    modules = (
        importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
    )
    return tuple(cast(_Opener, module) for module in modules if hasattr(module, "recognises"))
