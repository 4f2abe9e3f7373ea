"""SHA-256 of an operand: of its header, which costs nothing; of all its bytes and each tensor, which take a reading
and 0.6 s a GB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rosetta.sources import RemotePath

if TYPE_CHECKING:
    from rosetta.containers.container import Container, StoredContainer

AT_ONCE = 1 << 22  # bytes
SMALL = 1 << 26  # bytes that are hashed within 0.1 s, a fraction of what any comparison takes


def hashed_by_the_way(container: Container) -> bool:
    """Whether hashing all of a container costs next to nothing: what it reads lies on this machine and is little."""
    return not isinstance(container.path, RemotePath) and container.file_bytes <= SMALL


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


def tensors_sha256(container: Container) -> dict[str, str] | None:
    """Of each tensor's bytes as its file stores them, by the name that the file uses; None where the container does not
    say where they are. A packed weight is its codes, its scales …; an adapter's tensors stand with the base's."""
    # Help does without numpy and torch, which these bring.
    from rosetta.containers.container import StoredContainer
    from rosetta.workers import spread

    found: dict[str, str] = {}
    for stored in _as_stored(container):
        if not isinstance(stored, StoredContainer):
            return None
        names = [name for name, entry in stored.tensors.items() if entry.nbytes]
        found |= zip(names, spread(partial(_tensor_sha256, stored), names), strict=True)
    return found


def _tensor_sha256(stored: StoredContainer, name: str) -> str:
    digest = hashlib.sha256()
    path, start = stored.place(name)
    _read(digest, path, stored.tensors[name].nbytes, start)
    return digest.hexdigest()


def _as_stored(container: Container) -> Iterator[Container]:
    """What lies in files: of a folder of packed weights the packed ones, of a base with an adapter both."""
    base = getattr(container, "base", container)
    yield getattr(base, "stored", base)
    if base is not container:
        yield vars(container)["adapter"].stored


def _starts(container: Container) -> Mapping[Path, int] | None:
    """Where the data begins in each file; None where no files are named."""
    starts: Mapping[Path, int] | None = getattr(container, "data_starts", None)
    return starts or None


def _read(digest: hashlib._Hash, path: Path, nbytes: int, start: int = 0) -> None:
    for part in _parts(path, start, nbytes):
        digest.update(part)


def _parts(path: Path, start: int, nbytes: int) -> Iterator[bytes]:
    """Some bytes of a file, a few at a time."""
    from rosetta.containers.file_bytes import FileBytes  # numpy's: help does without

    file = FileBytes(path)
    try:
        end = min(start + nbytes, file.size)
        for at in range(start, end, AT_ONCE):
            yield file.bytes(at, min(AT_ONCE, end - at))
    finally:
        file.close()
