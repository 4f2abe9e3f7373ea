"""Tensors of a file being written, held on disk until all of them are known; and the rename that ends it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.errors import UsageError

_CHUNK = 1 << 22  # bytes


@dataclass(frozen=True)
class Spooled:
    """A tensor whose data lies in the spool, from byte `start`."""

    entry: TensorEntry
    start: int


class Spool:
    """Tensor data in a nameless temporary file beside the file to be written: memory holds one tensor.

    Args:
        path: the file to be written, for messages.
        folder: where the temporary file lies.
        tensors: consumed once, in the order in which they are kept.

    Raises:
        UsageError: a name occurs twice.
    """

    def __init__(self, path: Path, folder: Path, tensors: Iterable[TensorInput]) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        self.tensors: list[Spooled] = []
        seen: set[str] = set()
        for tensor in tensors:
            if tensor.name in seen:
                raise UsageError(
                    "is given twice", file=path, where=f"tensor {tensor.name!r}", remedy="write it once"
                )
            seen.add(tensor.name)
            data = np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8)
            entry = TensorEntry(tensor.name, tensor.dtype, tuple(tensor.dims), data.nbytes)
            self.tensors.append(Spooled(entry, self._file.tell()))
            self._file.write(data.data)

    def data(self, tensor: Spooled) -> NDArray[np.uint8]:
        """All bytes of a tensor, as a fresh writable array."""
        self._file.seek(tensor.start)
        return np.frombuffer(bytearray(self._file.read(tensor.entry.nbytes)), np.uint8)

    def chunks(self, tensor: Spooled) -> Iterator[bytes]:
        """A tensor's bytes, a few megabytes at a time."""
        self._file.seek(tensor.start)
        left = tensor.entry.nbytes
        while left:
            chunk = self._file.read(min(left, _CHUNK))
            left -= len(chunk)
            yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder next to `path`, removed at the end with whatever was not moved out of it.

    Raises:
        UsageError: the folder of `path` does not exist or may not be written.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix=f".{path.name[:64]}.", dir=path.parent)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(f"cannot be written: {reason}", file=path) from error
    with folder as name:
        yield Path(name)
