"""SHA-256 of what lies somewhere in files, begun beside other work once it is known to be wanted: a core is often idle
while another judges what both have computed, and does 1.5 to 2 GB a second."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rosetta.sources import RemotePath

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rosetta.containers.container import Container, Place

AT_ONCE = 1 << 22  # bytes
SMALL = 1 << 26  # bytes that are hashed within 0.1 s, a fraction of what any comparison takes


class Digests:
    """SHA-256 of places, each made once, by one thread beside other work; those that are still to be made when they are
    asked for, by all cores."""

    def __init__(self) -> None:
        self._begun: dict[Place, Future[str]] = {}
        self._beside = ThreadPoolExecutor(1, "rosetta-sha256")

    def begin(self, places: Iterable[Place]) -> None:
        """Say that these will be asked for, and that the system holds them now."""
        for place in places:
            if place not in self._begun:
                self._begun[place] = self._beside.submit(sha256, place)

    def of(self, places: Iterable[Place]) -> dict[Place, str]:
        """The digest of each, in hexadecimal."""
        from rosetta.workers import spread  # brings torch

        todo = list(dict.fromkeys(places))
        return dict(zip(todo, spread(self._digest, todo), strict=True))

    def stop(self) -> None:
        """Begin with no others: they would keep the process from its end."""
        self._beside.shutdown(wait=False, cancel_futures=True)

    def _digest(self, place: Place) -> str:
        begun = self._begun.get(place)
        return sha256(place) if begun is None or begun.cancel() else begun.result()


def sha256(place: Place) -> str:
    """Of the bytes there, in hexadecimal."""
    digest = hashlib.sha256()
    feed(digest, place.path, place.nbytes, place.start)
    return digest.hexdigest()


def feed(digest: hashlib._Hash, path: Path, nbytes: int, start: int = 0) -> None:
    """Give a digest some bytes of a file, or those up to its end."""
    for part in _parts(path, start, nbytes):
        digest.update(part.data)


def places_here(container: Container, name: str) -> Mapping[str, Place]:
    """Where what a tensor is made of lies, by the file's names; nothing of what lies far away and is not held."""
    places = container.places(name)
    return places if all(map(_is_here, places.values())) else {}


def is_small(container: Container) -> bool:
    """Whether hashing all of a container costs next to nothing: what it reads lies on this machine and is little."""
    return not isinstance(container.path, RemotePath) and container.file_bytes <= SMALL


def _is_here(place: Place) -> bool:
    """Whether the bytes are on this machine: of a file that is read from afar those that are still held."""
    if not isinstance(place.path, RemotePath):
        return True
    distant = place.path.store.opened(place.path.inside)
    return next(distant.missing((place.start, place.start + place.nbytes)), None) is None


def _parts(path: Path, start: int, nbytes: int) -> Iterator[NDArray[Any]]:
    """Some bytes of a file, a few at a time."""
    from rosetta.containers.file_bytes import FileBytes  # numpy's: help does without

    file = FileBytes(path)
    try:
        end = min(start + nbytes, file.size)
        for at in range(start, end, AT_ONCE):
            yield file.array(at, min(AT_ONCE, end - at))
    finally:
        file.close()
