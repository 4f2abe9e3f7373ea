"""Decoded weights that are used more than once while a stage is at hand.

Letters: R = rows, C = columns of a canonical matrix.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rosetta.lazily import torch
from rosetta.openblas import multiply
from rosetta.weight import WEIGHTS_AT_ONCE, Device, Weight

if TYPE_CHECKING:
    from torch import Tensor

STORED_ROOM = 1 << 26  # bytes of a matrix as it is stored; the largest of a layer of 8 billion weights fits
DECODED_ROOM = 1 << 26  # bytes of a matrix in float32: of 16 million weights
ROOM = 1 << 30  # bytes for what is kept of two copies; the matrices of a layer of 8 billion weights fit
LASTING_ROOM = 8 << 30  # bytes; two billion weights in float32


@dataclass(frozen=True)
class Sample:
    """Some rows of two copies of a matrix, taken from it as it was decoded.

    Args:
        copies: the two.
        rows: which rows, int64 [n], ascending.
        values: of each copy, float32 [n, C].
        variance: of their difference that the dtypes explain, float32 [n, C].
    """

    copies: tuple[Weight, Weight]
    rows: Tensor
    values: tuple[Tensor, Tensor]
    variance: Tensor

    @classmethod
    def empty(cls, copies: tuple[Weight, Weight], rows: Tensor, device: Device) -> Sample:
        """A sample that is to be taken."""
        left, right, variance = (torch.empty(len(rows), copies[0].dims[1], device=device) for _ in range(3))
        return cls(copies, rows, (left, right), variance)

    def take(self, part: tuple[int, int], left: Tensor, right: Tensor, variance: Tensor) -> None:
        """Take what it wants of the rows of a part."""
        first, last = torch.searchsorted(self.rows, self.rows.new_tensor(part)).tolist()
        if first < last:
            wanted = (self.rows[first:last] - part[0]).to(left.device)
            for x, into in ((left, self.values[0]), (right, self.values[1]), (variance, self.variance)):
                torch.index_select(x, 0, wanted, out=into[first:last])

    def of(self, weight: Weight) -> Tensor:
        """The values of one of the copies."""
        return self.values[self.copies.index(weight)]


class Products:
    """What a stage computes of two copies of its matrix, computed while their rows are at hand for a comparison: a
    matrix does not stay in a core's cache, and to fetch it again takes longer than to multiply with it.

    Args:
        believed, other: the copies.
        x: what the believed one is multiplied with, and what the noise is predicted of, [T, C].
        of_other: what the other one is multiplied with, [T, C] each.
    """

    def __init__(self, believed: Weight, other: Weight, x: Tensor, of_other: Sequence[Tensor]) -> None:
        self.copies, self._x = (believed, other), x
        self._inputs = [(believed, x), *((other, own) for own in of_other)]
        self._squares = x.float().square()
        self._largest: dict[tuple[int, int], Tensor] = {}

    def begin(self) -> None:
        """Make room: now the copies are compared."""
        rows = self.copies[0].dims[0]
        self._made = [x.new_empty(len(x), rows) for _, x in self._inputs]
        self._explained = self._squares.new_empty(len(self._x), rows)

    def make(self, rows: tuple[int, int], believed: Tensor, other: Tensor, variance: Tensor) -> None:
        """Multiply with some rows of both copies, and with the variance of their difference, float32 [rows, C]."""
        some = slice(*rows)
        for (weight, x), y in zip(self._inputs, self._made, strict=True):
            multiply(x, (believed if weight is self.copies[0] else other).to(x.dtype), y[:, some])
        self._explained[:, some] = self._squares @ variance.T
        self._largest[rows] = largest(believed)

    @property
    def _is_made(self) -> bool:
        done = sum(stop - start for start, stop in self._largest)
        return done > 0 and done == self.copies[0].dims[0]

    def of(self, weight: Weight, x: Tensor) -> Tensor | None:
        """x Wᵀ, [T, R]; None where it has not been made."""
        places = (i for i, (own, given) in enumerate(self._inputs) if given is x and own == weight)
        place = next(places, None)
        return None if place is None or not self._is_made else self._made[place]

    def explained(self, x: Tensor) -> Tensor | None:
        """x² Vᵀ, where V is the variance of the difference, [T, R]; None where it has not been made."""
        return self._explained if x is self._x and self._is_made else None

    def largest(self, weight: Weight, rows: tuple[int, int]) -> Tensor | None:
        """The largest magnitude in some rows of the believed copy; None of any other."""
        return self._largest.get(rows) if weight == self.copies[0] else None


def largest(values: Tensor) -> Tensor:
    """The largest magnitude, a scalar."""
    return torch.stack(values.aminmax()).abs().max()


class DecodedPair:
    """What the last comparison of two copies of a matrix read, decoded or multiplied, left for the stage that computes
    with them.

    Matrices that have no room are decoded again by everyone who needs them. What is kept may not be written to.
    Beside an observed run there is one copy, which is decoded once: see `alone`.

    Attributes:
        sample: some rows of both copies; None where none were asked for.
    """

    def __init__(self) -> None:
        self.sample: Sample | None = None
        self._copies: tuple[Weight, ...] = ()
        self._keeps = True
        self._products: Products | None = None
        self._rows: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
        self._stored: dict[tuple[int, int], NDArray[np.uint8]] = {}
        self._alone: dict[Weight, dict[tuple[int, int], Tensor]] = {}

    def expect(self, products: Products | None) -> None:
        """Say what the stage at hand computes, until `forget`: these products, or nothing of whole matrices (a table,
        of which it takes some rows). Nothing else is kept of its copies."""
        self._products, self._keeps = products, False

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

    def start(
        self, left: Weight, right: Weight, sampled: Tensor | None = None, device: Device = "cpu"
    ) -> None:
        """Forget the matrices before; keep these, where they have room.

        Args:
            left, right: the copies.
            sampled: rows that are wanted of them, int64, ascending.
            device: where they are decoded.
        """
        self.clear()
        if self._keeps and 3 * 4 * left.count <= ROOM:  # float32: two copies and a variance
            self._copies = left, right
        if sampled is not None:
            self.sample = Sample.empty((left, right), sampled, device)
        if self._products is not None and self._products.copies == (left, right):
            self._products.begin()
        else:
            self._products = None

    def put(self, rows: tuple[int, int], left: Tensor, right: Tensor, variance: Tensor) -> None:
        """Take the values of some rows of both copies, and the variance of their difference, float32 [rows, C]."""
        if self.sample is not None:
            self.sample.take(rows, left, right, variance)
        if self._products is not None:
            self._products.make(rows, left, right, variance)
        if self._copies:
            self._rows[rows] = left, right, variance

    def product(self, weight: Weight, x: Tensor) -> Tensor | None:
        """See `Products.of`."""
        return None if self._products is None else self._products.of(weight, x)

    def explained(self, left: Weight, right: Weight, x: Tensor) -> Tensor | None:
        """See `Products.explained`."""
        known = self._products
        return known.explained(x) if known is not None and known.copies == (left, right) else None

    def largest(self, weight: Weight, rows: tuple[int, int]) -> Tensor | None:
        """See `Products.largest`."""
        return None if self._products is None else self._products.largest(weight, rows)

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
        """Keep nothing of matrices."""
        self._copies, self.sample = (), None
        self._rows.clear()
        self._stored.clear()
        self._alone.clear()

    def forget(self) -> None:
        """Keep nothing, and expect nothing."""
        self.clear()
        self._products, self._keeps = None, True


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

    def product(self, weight: Weight, x: Tensor) -> Tensor | None:
        """x Wᵀ, [T, R], where it was made when the matrix was compared."""
        return self.kept.product(weight, x)

    def share(self, weight: Weight, same: Weight) -> None:
        """Let two weights of equal bytes be decoded once."""
        if same in self._values:
            self._values[weight] = self._values[same]

    def moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(device=self.device, dtype=self.dtype)

    def largest(self, weight: Weight, start: int, stop: int) -> Tensor:
        """The largest magnitude in rows start … stop, a scalar."""
        known = self.kept.largest(weight, (start, stop))
        return largest(self.rows(weight, start, stop)) if known is None else known

    def clear(self) -> None:
        self._values.clear()
        self.kept.forget()


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
