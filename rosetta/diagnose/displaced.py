"""Files of which all data from a tensor on lie some bytes beside their places: bytes came in before it, or were lost.

Each such tensor looks shifted by itself. That they are by one number, neighbour after neighbour, is one cause; and what
a shift cuts off a tensor's end stands in the file, behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray

from rosetta.containers.container import StoredContainer
from rosetta.containers.file_bytes import FileBytes
from rosetta.containers.stand_in import StandIn
from rosetta.diagnose.hypothesis import SAMPLED_COLUMNS, SAMPLED_ROWS, Suspect
from rosetta.diagnose.patches import reading
from rosetta.model import Model, Patch
from rosetta.sources import RemotePath
from rosetta.weight import Weight

NEIGHBOURS = 2  # tensors that lie as far beside their places as the one at hand: of fewer it is its own fault
MUCH_NEARER = 2.0  # times: of norms, which all are near one, the wrong bytes are not far off either
FIRST_BYTES = 1 << 12


class Displaced(StandIn):
    """A container of which some tensors are read some bytes on, what lies outside of the file as zeros.

    Args:
        original: as it is.
        shift: bytes.
        names: the tensors, all in one file.
    """

    def __init__(self, original: StoredContainer, shift: int, names: frozenset[str]) -> None:
        super().__init__(original)
        self.shift, self.names, self.place = shift, names, original.place

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`."""
        if name not in self.names:
            return super().read(name, start, nbytes)
        path, place = self.place(name)
        size = self.tensors[name].nbytes - start if nbytes is None else nbytes
        begin, data = place + self.shift + start, np.zeros(size, np.uint8)
        file = FileBytes(path)
        try:
            first, last = max(begin, 0), min(begin + size, file.size)
            if first < last:
                data[first - begin : last - begin] = file.array(first, last - first)
        finally:
            file.close()
        return data


@dataclass(frozen=True)
class Displacement:
    """Tensors of a file that lie beside their places.

    Args:
        container: that reads them from where they lie.
        first: the file's name of the first.
        count: how many they are.
    """

    container: Displaced
    first: str
    count: int

    def patches(self, model: Model) -> dict[str, Patch]:
        """For each weight that is made of these tensors, the one that reads it from where it lies."""
        read = reading(container=self.container)
        return {
            name: read
            for name, weight in model.weights.items()
            if weight.container is self.container.original and weight.entry.name in self.container.names
        }

    def cut(self, model: Model) -> Iterator[Weight]:
        """One weight for each of these tensors a part of which lies before all data of the file, or behind its end."""
        moved, seen = self.container, set[str]()
        path, _ = moved.place(self.first)
        begin = min(moved.place(name)[1] for name in moved.tensors if moved.place(name)[0] == path)
        for weight in model.weights.values():
            name = weight.entry.name
            if weight.container is not moved.original or name not in moved.names or name in seen:
                continue
            seen.add(name)
            start = moved.place(name)[1] + moved.shift
            if start < begin or start + weight.entry.nbytes > path.stat().st_size:
                yield weight


def displacement(suspect: Suspect, weight: Weight, shift: int) -> Displacement | None:
    """The tensors about a weight that lie as far beside their places; None where it is the only one.

    Args:
        suspect: the side that it is of.
        weight: one that is shifted.
        shift: by so many bytes.
    """
    container = weight.container
    if not isinstance(container, StoredContainer) or not _lies_as_it_is_read(container, weight):
        return None
    path, _ = container.place(weight.entry.name)
    names = [name for name in container.tensors if container.place(name)[0] == path]
    names.sort(key=lambda name: container.place(name)[1])
    moved = Displaced(container, shift, frozenset(names))
    copies = {own.entry.name: own for own in suspect.model.weights.values() if own.container is container}

    @cache
    def beside(name: str) -> bool | None:
        return _lies_beside(suspect, copies[name], moved) if name in copies else None

    at = names.index(weight.entry.name)
    before = takewhile(lambda name: beside(name) is not False, reversed(names[:at]))
    run = [*reversed([*before]), *takewhile(lambda name: beside(name) is not False, names[at:])]
    while run and not beside(run[0]):
        del run[0]  # what says nothing, before the first that does, may lie in its place
    found = frozenset(run)
    if weight.entry.name not in found or sum(beside(name) is True for name in found) <= NEIGHBOURS:
        return None
    return Displacement(Displaced(container, shift, found), run[0], len(run))


def _lies_as_it_is_read(container: StoredContainer, weight: Weight) -> bool:
    """Whether a tensor's bytes are those of its file: not so where they are turned round, packed or far away."""
    name = weight.entry.name
    path, _ = container.place(name)
    if isinstance(path, RemotePath) or weight.bytes_edit is not None:
        return False
    unmoved, some = Displaced(container, 0, frozenset([name])), min(weight.entry.nbytes, FIRST_BYTES)
    return np.array_equal(unmoved.read(name, 0, some), container.read(name, 0, some))


def _lies_beside(suspect: Suspect, weight: Weight, moved: Displaced) -> bool | None:
    """Whether a weight is the other copy only where it is read some bytes on; None of a vector that tells nothing. A
    matrix that is no copy either way has a fault of its own: what lies behind it is told by itself."""
    other = suspect.counterpart(weight)
    if other is None or other.dims != weight.dims or weight.bytes_edit is not None:
        return None
    truth, stored, further = (
        x.corner(SAMPLED_ROWS, SAMPLED_COLUMNS).double()[..., :SAMPLED_COLUMNS]
        for x in (other, weight, replace(weight, container=moved))
    )
    before, after = (_distance(x, truth) for x in (stored, further))
    if after * MUCH_NEARER < before:
        return True
    return None if len(weight.dims) == 1 and before * MUCH_NEARER >= after else False


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    gap = (a - b).abs().nan_to_num(torch.inf, torch.inf)
    return float(gap.clamp(max=1e30).norm())
