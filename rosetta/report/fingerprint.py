"""SHA-256 of an operand: of its header, which costs nothing, and of all its bytes, which takes a reading."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rosetta.containers.container import Container

AT_ONCE = 1 << 22  # bytes


def header_sha256(container: Container) -> str | None:
    """Of what stands before the data in each file of a container, in the order of their names, a folder's config
    first; None where the container does not say."""
    starts = _starts(container)
    if starts is None:
        return None
    digest = hashlib.sha256()
    config = container.path / "config.json"
    if config.is_file():
        digest.update(config.read_bytes())
    for path, nbytes in sorted(starts.items()):
        _read(digest, path, nbytes)
    return digest.hexdigest()


def whole_sha256(container: Container) -> str | None:
    """Of all files that hold tensors, one after another in the order of their names; of one file what `sha256sum`
    says; None where the container does not name them."""
    starts = _starts(container)
    if starts is None:
        return None
    digest = hashlib.sha256()
    for path in sorted(starts):
        _read(digest, path, path.stat().st_size)
    return digest.hexdigest()


def _starts(container: Container) -> Mapping[Path, int] | None:
    """Where the data begins in each file; None where no files are named."""
    starts: Mapping[Path, int] | None = getattr(container, "data_starts", None)
    return starts or None


def _read(digest: hashlib._Hash, path: Path, nbytes: int) -> None:
    for part in _parts(path, nbytes):
        digest.update(part)


def _parts(path: Path, nbytes: int) -> Iterator[bytes]:
    """The first bytes of a file, a few at a time."""
    from rosetta.containers.file_bytes import FileBytes  # numpy's: help does without

    file = FileBytes(path)
    try:
        end = min(nbytes, file.size)
        for start in range(0, end, AT_ONCE):
            yield file.bytes(start, min(AT_ONCE, end - start))
    finally:
        file.close()
