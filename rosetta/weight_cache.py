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
FEW = 32  # tokens, from which on a library multiplies faster than loops do beside their other work
LASTING_ROOM = 8 << 30  # bytes; two billion weights in float32


@dataclass(frozen=True)
class Sample:
    """Some rows of two copies of a matrix, taken from it as it was decoded.

    Args:
        copies: the two.
        rows: which rows, int64 [n], ascending.
        taken: values of both copies, and the variance of their difference that the dtypes explain, float32 [n, C] each:
            in one piece they would be larger than memory that is used again.
    """

    copies: tuple[Weight, Weight]
    rows: Tensor
    taken: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def empty(cls, copies: tuple[Weight, Weight], rows: Tensor, device: Device) -> Sample:
        """A sample that is to be taken."""
        left, right, variance = (torch.empty(len(rows), copies[0].dims[1], device=device) for _ in range(3))
        return cls(copies, rows, (left, right, variance))

    def take(self, part: tuple[int, int], left: Tensor, right: Tensor, variance: Tensor) -> None:
        """Take what it wants of the rows of a part."""
        first, last = self._places(part)
        if first < last:
            wanted = (self.rows[first:last] - part[0]).to(left.device)
            for x, into in zip((left, right, variance), self.taken, strict=True):
                torch.index_select(x, 0, wanted, out=into[first:last])

    def wanted(self, part: tuple[int, int]) -> tuple[NDArray[np.int64], int, tuple[NDArray[np.float32], ...]]:
        """Which rows of a part it wants, counted from the first of these, int64 [m]; from which of its own rows on it
        takes them; and what takes them, float32 [n, C] each."""
        first, last = self._places(part)
        return (self.rows[first:last] - part[0]).numpy(), first, tuple(x.numpy() for x in self.taken)

    def _places(self, part: tuple[int, int]) -> tuple[int, int]:
        """Which of its own rows are of a part, from the first to after the last."""
        first, last = np.searchsorted(self.rows.numpy(), part).tolist()
        return first, last

    def of(self, weight: Weight) -> Tensor:
        """The values of one of the copies."""
        return self.taken[self.copies.index(weight)]

    @property
    def variance(self) -> Tensor:
        """Of the difference."""
        return self.taken[2]


class Products:
    """What a stage computes of two copies of its matrix, computed while their rows are at hand for a comparison: a
    matrix does not stay in a core's cache, and to fetch it again takes longer than to multiply with it.

    Args:
        believed, other: the copies.
        x: what the believed one is multiplied with, and what the noise is predicted of, [T, C].
        of_other: what the other one is multiplied with, [T, C] each.

    Attributes:
        for_loops: what the believed copy, the other one and the variance are multiplied with, in this order, float32
            [k, T, C], and what takes the products, [k, T, R]; None where a library is the quicker one.
    """

    def __init__(self, believed: Weight, other: Weight, x: Tensor, of_other: Sequence[Tensor]) -> None:
        self.copies, self._x = (believed, other), x
        self._inputs = [(believed, x), *((other, own) for own in of_other)]
        self._squares = x.float().square()
        self._largest: dict[tuple[int, int], Tensor] = {}
        self.for_loops: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    @property
    def suits_loops(self) -> bool:
        """Whether loops make them faster than a library: of few tokens, in float32, and none yet."""
        given, x = [x for _, x in self._inputs], self._x
        shape = len(x), *self.copies[0].dims[1:]  # loops look at no bounds
        alike = all(one.dtype == torch.float32 and one.shape == shape for one in given)
        return alike and x.device.type == "cpu" and len(x) <= FEW and not self._largest

    def begin(self) -> None:
        """Make room: now the copies are compared."""
        (_, x), *of_other = self._inputs
        rows, given = self.copies[0].dims[0], [x, *(own for _, own in of_other), self._squares]
        if self.suits_loops:
            made = x.new_empty(len(given), len(x), rows)
            self.for_loops = torch.stack(given).numpy(), made.numpy()
            *self._made, self._explained = made
        else:
            *self._made, self._explained = (one.new_empty(len(one), rows) for one in given)

    def note(self, rows: tuple[int, int], largest: Tensor) -> None:
        """Take note that products with some rows have been put where they belong, and of the largest magnitude in the
        believed copy's."""
        self._largest[rows] = largest

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
        """The largest magnitude in some rows of the believed copy, and in those that were multiplied together with
        them; None of any other."""
        if weight != self.copies[0] or not self._is_made:
            return None
        start, stop = rows
        found = [most for (first, end), most in self._largest.items() if first < stop and start < end]
        return torch.stack(found).max() if found else None


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

    def awaits(self, left: Weight, right: Weight) -> bool:
        """Whether the stage at hand computes of these copies what loops would make in one pass, and has not got it."""
        expected = self._products
        return expected is not None and expected.copies == (left, right) and expected.suits_loops

    @property
    def products(self) -> Products | None:
        """What the stage at hand computes of the copies at hand."""
        return self._products

    @property
    def keeps_rows(self) -> bool:
        """Whether all rows of the copies at hand are kept."""
        return bool(self._copies)

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
