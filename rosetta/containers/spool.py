"""Tensors of a file to be written: what is declared of each, and where its bytes come from, piece by piece."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Self

import numpy as np

from rosetta.containers.container import Container, TensorEntry, TensorInput
from rosetta.errors import UsageError

_CHUNK = 1 << 22  # bytes

Chunk = bytes | memoryview

Progress = Callable[[str, int, int], None]
"""Told what is being written, how many are done, and how many there are."""


@dataclass(frozen=True)
class TensorSource:
    """A tensor to be written, its bytes wherever they are.

    Args:
        entry: what is to be declared of it.
        chunks: gives its bytes in the machine's order, a few megabytes at a time.
    """

    entry: TensorEntry
    chunks: Callable[[], Iterable[Chunk]]


def pieces(read: Callable[[int, int], Chunk], nbytes: int) -> Iterator[Chunk]:
    """All bytes that `read(start, nbytes)` gives, a few megabytes at a time."""
    for start in range(0, nbytes, _CHUNK):
        yield read(start, min(_CHUNK, nbytes - start))


def declared(tensor: TensorInput) -> TensorEntry:
    """What a file is to declare of a tensor."""
    return TensorEntry(tensor.name, tensor.dtype, tuple(tensor.dims), tensor.data.nbytes)


def copied(container: Container, name: str) -> TensorSource:
    """A tensor of another container as it is."""
    entry = container.tensors[name]

    def read(start: int, nbytes: int) -> Chunk:
        return container.read(name, start, nbytes).data

    return TensorSource(entry, lambda: pieces(read, entry.nbytes))


class Spool:
    """Tensor data in a nameless temporary file, held until all tensors are known: memory holds one tensor.

    Args:
        path: the file to be written, for messages.
        folder: where the temporary file lies.
        tensors: consumed once, in the order in which they are kept.

    Attributes:
        tensors: the same, their bytes read back from the temporary file; good until the spool is closed.

    Raises:
        UsageError: a name occurs twice.
    """

    def __init__(self, path: Path, folder: Path, tensors: Iterable[TensorInput]) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        self.tensors: list[TensorSource] = []
        seen: set[str] = set()
        for tensor in tensors:
            if tensor.name in seen:
                raise UsageError(
                    "is given twice", file=path, where=f"tensor {tensor.name!r}", remedy="write it once"
                )
            seen.add(tensor.name)
            data = np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8)
            read = partial(self._read, self._file.tell())
            self.tensors.append(TensorSource(declared(tensor), partial(pieces, read, data.nbytes)))
            self._file.write(data.data)

    def _read(self, base: int, start: int, nbytes: int) -> bytes:
        self._file.seek(base + start)
        return self._file.read(nbytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
