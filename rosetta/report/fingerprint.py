"""SHA-256 of an operand: of its header, which costs nothing; of the tensors that were read anyway, which the system
still holds; of all its bytes, which take a reading."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rosetta.digests import Digests, feed

if TYPE_CHECKING:
    from rosetta.compare.results import Side
    from rosetta.compare.weights import Copies
    from rosetta.containers.container import Container, Place


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
        feed(digest, path, nbytes)
    return digest.hexdigest()


def whole_sha256(container: Container) -> str | None:
    """Of all files that hold tensors, one after another in the order of their names; of one file what `sha256sum`
    says; None where the container does not name them."""
    if not container.data_starts:
        return None
    digest = hashlib.sha256()
    for path in sorted(container.data_starts):
        feed(digest, path, path.stat().st_size)
    return digest.hexdigest()


def tensors_sha256(container: Container) -> dict[str, str] | None:
    """Of each tensor's bytes as its file stores them, by the name that the file uses; None where the container does not
    say where they are. A packed weight is its codes, its scales …; an adapter's tensors stand with the base's."""
    places = {name: place for name, place in container.all_places().items() if place.nbytes}
    hashed = Digests().of(places.values())
    return {name: hashed[place] for name, place in places.items()} if places else None


def read_sha256(copies: Iterable[Copies], digests: Digests | None = None) -> dict[Side, dict[str, str]]:
    """The same of the tensors that a comparison has read to their ends, by side; with an adapter, of its base's.

    Bytes that both sides have are hashed once. Nothing is fetched again: of a file far away it is those that are held.

    Args:
        copies: what it has read.
        digests: those that were begun meanwhile.
    """
    sides: dict[Side, dict[str, Place]] = {"left": {}, "right": {}}
    for both in copies:
        own, theirs = both.places
        sides["left"] |= own
        sides["right"] |= theirs
    hashed = (digests or Digests()).of(place for places in sides.values() for place in places.values())
    return {side: {name: hashed[place] for name, place in places.items()} for side, places in sides.items()}
