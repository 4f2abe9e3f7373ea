"""Decoded weights that are used more than once while a stage is at hand.

Letters: R = rows, C = columns of a canonical matrix.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rosetta.lazily import torch
from rosetta.weight import WEIGHTS_AT_ONCE, Device, Weight

if TYPE_CHECKING:
    from torch import Tensor

STORED_ROOM = 1 << 26  # bytes of a matrix as it is stored; the largest of a layer of 8 billion weights fits
DECODED_ROOM = 1 << 26  # bytes of a matrix in float32: of 16 million weights
ROOM = 1 << 30  # bytes for what is kept of two copies; the matrices of a layer of 8 billion weights fit
LASTING_ROOM = 8 << 30  # bytes; two billion weights in float32


class DecodedPair:
    """What the last comparison of two copies of a matrix read or decoded, left for the stage that computes with them.

    Matrices that have no room are decoded again by everyone who needs them. What is kept may not be written to.
    Beside an observed run there is one copy, which is decoded once: see `alone`.
    """

    def __init__(self) -> None:
        self._copies: tuple[Weight, ...] = ()
        self._rows: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
        self._stored: dict[tuple[int, int], NDArray[np.uint8]] = {}
        self._alone: dict[Weight, dict[tuple[int, int], Tensor]] = {}

    def alone(self, weight: Weight) -> None:
        """Keep what is decoded of a matrix, where it has room."""
        if 4 * weight.count <= DECODED_ROOM:
            self._alone.setdefault(weight, {})

    def reads(
        self, left: Weight, right: Weight
    ) -> Callable[[tuple[int, int], NDArray[np.uint8]], None] | None:
        """What takes the bytes that both copies have in some rows; None where the matrix has no room."""
        self.clear()
        if left.nbytes > STORED_ROOM or left.values_edits or right.values_edits:
            return None
        self._copies = left, right
        return self._stored.__setitem__

    def start(self, left: Weight, right: Weight) -> None:
        """Forget the matrices before; keep these, where they have room."""
        self.clear()
        if 3 * 4 * left.count <= ROOM:  # float32: two copies and a variance
            self._copies = left, right

    def put(self, rows: tuple[int, int], left: Tensor, right: Tensor, variance: Tensor) -> None:
        """Keep the values of some rows of both copies, and the variance of their difference, float32 [rows, C]."""
        if self._copies:
            self._rows[rows] = left, right, variance

    def holds(self, rows: tuple[int, int]) -> bool:
        """Whether some rows of both copies are at hand, decoded."""
        return rows in self._rows

    def values(
        self, weight: Weight, start: int, stop: int, device: Device = "cpu", out: Tensor | None = None
    ) -> Tensor:
        """Rows start … stop of a matrix, float32 [rows, C]: as kept, or decoded, into `out` where that may be."""
        held, rows = weight in self._copies, (start, stop)
        alone = self._alone.get(weight) if self._alone else None
        if alone is not None:
            if rows not in alone:
                alone[rows] = weight.values(start, stop, device)
            return alone[rows]
        if held and rows in self._stored:
            return weight.decoded(self._stored[rows], device, out)
        found = self._rows.get(rows) if held else None
        if found is None or found[0].device.type != torch.device(device).type:
            return weight.values(start, stop, device, out)
        return found[self._copies.index(weight)]

    def variance(
        self, left: Weight, right: Weight, start: int = 0, stop: int | None = None, device: Device = "cpu"
    ) -> Tensor:
        """`variance` of two weights, float32 [rows, C]: as kept, or computed."""
        held = self._copies in ((left, right), (right, left))  # a variance has no sides
        found = self._rows.get((start, stop)) if held and stop is not None else None
        if found is None or found[2].device.type != torch.device(device).type:
            return variance(left, right, start, stop, device)
        return found[2]

    def clear(self) -> None:
        """Keep nothing."""
        self._copies = ()
        self._rows.clear()
        self._stored.clear()
        self._alone.clear()


def variance(
    left: Weight, right: Weight, start: int = 0, stop: int | None = None, device: Device = "cpu"
) -> Tensor:
    """Variance of the difference of two copies that their dtypes explain, float32 [rows, C]; see `Weight.sigma`."""
    return left.variance(start, stop, device).add_(right.variance(start, stop, device))


class WeightCache:
    """Decoded weights of the stage at hand; whoever runs the stages clears it after each.

    Args:
        device, dtype: of the arithmetic.
        kept: rows that need not be decoded, shared by both sides of a comparison.
    """

    def __init__(
        self, device: str = "cpu", dtype: torch.dtype | None = None, kept: DecodedPair | None = None
    ) -> None:
        self.device, self.dtype = device, dtype or torch.float32
        self.kept = kept or DecodedPair()
        self._passing = threading.local()
        self._values: dict[Weight, Tensor] = {}

    def values(self, weight: Weight) -> Tensor:
        """The whole weight, decoded once, of the dtype of the arithmetic."""
        if weight not in self._values:
            self._values[weight] = self.moved(weight.values(device=self.device))
        return self._values[weight]

    def rows(self, weight: Weight, start: int, stop: int) -> Tensor:
        """Rows start … stop of a matrix, float32 [rows, C]."""
        return self.kept.values(weight, start, stop, self.device)

    def passing(self, weight: Weight, start: int, stop: int) -> Tensor:
        """Rows start … stop of a matrix in the dtype of the arithmetic, [rows, C], which hold until this thread asks
        for others: fresh memory for each would cost as much as half of the decoding."""
        if self.device != "cpu":
            return self.moved(self.rows(weight, start, stop))
        memory = getattr(self._passing, "memory", None)
        if memory is None:
            memory = self._passing.memory = torch.empty(WEIGHTS_AT_ONCE)
        return self.moved(self.kept.values(weight, start, stop, self.device, memory))

    def share(self, weight: Weight, same: Weight) -> None:
        """Let two weights of equal bytes be decoded once."""
        if same in self._values:
            self._values[weight] = self._values[same]

    def moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(device=self.device, dtype=self.dtype)

    def clear(self) -> None:
        self._values.clear()
        self.kept.clear()


class LastingCache(WeightCache):
    """Decoded weights that stay from one token to the next, as many as have room; the others are decoded each time.

    Args:
        device, dtype: of the arithmetic.
        room: bytes of what is kept.
    """

    def __init__(
        self, device: str = "cpu", dtype: torch.dtype | None = None, room: int = LASTING_ROOM
    ) -> None:
        super().__init__(device, dtype)
        self.room = room
        self._lasting: dict[tuple[Weight, int, int | None], Tensor] = {}

    def values(self, weight: Weight) -> Tensor:
        return self._kept(weight, 0, None)

    def rows(self, weight: Weight, start: int, stop: int) -> Tensor:
        return self._kept(weight, start, stop)

    def passing(self, weight: Weight, start: int, stop: int) -> Tensor:
        return self._kept(weight, start, stop)

    def _kept(self, weight: Weight, start: int, stop: int | None) -> Tensor:
        key = (weight, start, stop)
        found = self._lasting.get(key)
        if found is None:
            found = self.moved(weight.values(start, stop, self.device))
            size = found.numel() * found.element_size()
            if size <= self.room:
                self.room -= size
                self._lasting[key] = found
        return found
