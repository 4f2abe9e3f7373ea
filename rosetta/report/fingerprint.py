"""SHA-256 of an operand: of its header, which costs nothing; of the tensors that were read anyway, which the system
still holds; of all its bytes, which take a reading. A core does 1.5 to 2 GB a second."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rosetta.sources import RemotePath

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rosetta.compare.results import Side
    from rosetta.compare.weights import Copies
    from rosetta.containers.container import Container, Place
    from rosetta.weight import Weight

AT_ONCE = 1 << 22  # bytes
SMALL = 1 << 26  # bytes that are hashed within 0.1 s, a fraction of what any comparison takes


def is_small(container: Container) -> bool:
    """Whether hashing all of a container costs next to nothing: what it reads lies on this machine and is little."""
    return not isinstance(container.path, RemotePath) and container.file_bytes <= SMALL


def header_sha256(container: Container) -> str | None:
    """Of what stands before the data in each file of a container, in the order of their names, a folder's config
    first; None where the container does not say."""
    if not container.data_starts:
        return None
    digest = hashlib.sha256()
    config = container.path / "config.json"
    if config.is_file():
        digest.update(config.read_bytes())
    for path, nbytes in sorted(container.data_starts.items()):
        _read(digest, path, nbytes)
    return digest.hexdigest()


def whole_sha256(container: Container) -> str | None:
    """Of all files that hold tensors, one after another in the order of their names; of one file what `sha256sum`
    says; None where the container does not name them."""
    if not container.data_starts:
        return None
    digest = hashlib.sha256()
    for path in sorted(container.data_starts):
        _read(digest, path, path.stat().st_size)
    return digest.hexdigest()


def tensors_sha256(container: Container) -> dict[str, str] | None:
    """Of each tensor's bytes as its file stores them, by the name that the file uses; None where the container does not
    say where they are. A packed weight is its codes, its scales …; an adapter's tensors stand with the base's."""
    places = {name: place for name, place in container.all_places().items() if place.nbytes}
    hashed = _hashed(places.values())
    return {name: hashed[place] for name, place in places.items()} if places else None


def read_sha256(copies: Iterable[Copies]) -> dict[Side, dict[str, str]]:
    """The same of the tensors that a comparison has read to their ends, by side; with an adapter, of its base's.

    Bytes that both sides have are hashed once. Nothing is fetched again: of a file far away it is those that are held.
    """
    sides: dict[Side, dict[str, Place]] = {"left": {}, "right": {}}
    for left, right, same_bytes in copies:
        own, theirs = _places_of(left), _places_of(right)
        if same_bytes and len(own) == len(theirs) == 1:  # a packed weight lies in several places
            theirs = dict(zip(theirs, own.values(), strict=True))
        sides["left"] |= own
        sides["right"] |= theirs
    hashed = _hashed(place for places in sides.values() for place in places.values())
    return {side: {name: hashed[place] for name, place in places.items()} for side, places in sides.items()}


def _places_of(weight: Weight) -> Mapping[str, Place]:
    """Where what a weight is made of lies, by the file's names."""
    places = weight.container.places(weight.entry.name)
    return places if all(map(_is_here, places.values())) else {}


def _is_here(place: Place) -> bool:
    """Whether the bytes are on this machine: of a file that is read from afar those that are still held."""
    if not isinstance(place.path, RemotePath):
        return True
    distant = place.path.store.opened(place.path.inside)
    return next(distant.missing((place.start, place.start + place.nbytes)), None) is None


def _hashed(places: Iterable[Place]) -> dict[Place, str]:
    """What lies at places, each hashed once, on all cores."""
    from rosetta.workers import spread  # brings torch

    todo = list(dict.fromkeys(places))
    return dict(zip(todo, spread(_sha256, todo), strict=True))


def _sha256(place: Place) -> str:
    digest = hashlib.sha256()
    _read(digest, place.path, place.nbytes, place.start)
    return digest.hexdigest()


def _read(digest: hashlib._Hash, path: Path, nbytes: int, start: int = 0) -> None:
    for part in _parts(path, start, nbytes):
        digest.update(part.data)


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
