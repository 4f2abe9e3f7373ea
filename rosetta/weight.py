"""One canonical weight: where its bytes lie, and how they become contiguous numbers in canonical order.

Letters: R = rows, C = columns of the canonical matrix, row-major; a vector counts as [R, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rosetta import blocks
from rosetta.containers.container import Container, TensorEntry
from rosetta.dtypes import FLOATS
from rosetta.edits import BytesEdit, Encoded, Fitted, OfLowRank, Rounded, ValuesEdit
from rosetta.lazily import torch
from rosetta.row_order import Chosen, Order, Part
from rosetta.workers import spread

if TYPE_CHECKING:
    from torch import Tensor

TURNED_AT_ONCE = 1 << 22  # bytes of a matrix that is turned, rows of which are read beside each other
FAR_APART = 64  # rows in a file for each that is wanted, from which on each is read by itself
WEIGHTS_AT_ONCE = 1 << 20  # of a matrix: what a core decodes and multiplies before it leaves its cache, 4 MiB


Device: TypeAlias = "str | torch.device"


@dataclass(frozen=True)
class Weight:
    """A tensor of a model under its canonical name; decoded when asked for, never kept.

    Args:
        name: canonical name, `blk.0.attn_q.weight`.
        container: where the bytes are.
        entry: the tensor that holds them, as its file declares it.
        dtype: what the bytes are decoded as: the declared dtype, or another one that a repair tries.
        stored_dims: row-major dims that the bytes are decoded with.
        transposed: whether the decoded matrix is turned: its file says that it stores `[in, out]`.
        slot: (which, of how many): of a tensor that holds as many matrices one after another, an expert's.
        part: which rows of a fused tensor; the whole tensor where its rows are not as many.
        order: of these rows; None where the file's order is the canonical one.
        columns: another order of the columns, of a float dtype; None where the file's is the canonical one.
        fused: canonical name of the stored tensor, where the weight is not all of it.
        bytes_edit: what a repair does to the stored bytes before they are decoded.
        values_edits: what repairs do to the canonical values, one after another.
        repaired: whether a repair changed how the weight is read.
    """

    name: str
    container: Container
    entry: TensorEntry
    dtype: str
    stored_dims: tuple[int, ...]
    transposed: bool = False
    slot: tuple[int, int] | None = None
    part: Part | None = None
    order: Order | None = None
    columns: Order | None = None
    fused: str | None = None
    bytes_edit: BytesEdit | None = None
    values_edits: tuple[ValuesEdit, ...] = ()
    repaired: bool = False

    @property
    def dims(self) -> tuple[int, ...]:
        """Canonical dims, row-major: what the file's own dims make of this weight."""
        whole = self.stored_dims[::-1] if self.transposed else self.stored_dims
        part = self._part_of(whole)
        return whole if part is None else (part.count, *whole[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of the stored matrix."""
        return self.entry.nbytes if self.slot is None else self.entry.nbytes // self.slot[1]

    def only(self, rows: Sequence[int]) -> Weight:
        """A matrix of some rows of this one, each once; itself where its layout or a repair keeps rows from being read
        by themselves."""
        chosen = tuple(sorted(set(rows)))
        plain = not (self.transposed or self.bytes_edit or self.values_edits or self.part or self.order)
        inside = bool(chosen) and len(self.dims) == 2 and chosen[0] >= 0 and chosen[-1] < self.dims[0]
        if not plain or not inside or self._row_bytes() is None:
            return self
        return self.with_rows(np.array(chosen), self.dims[0])

    @property
    def plain(self) -> bool:
        """Whether it is all of a stored tensor as its bytes lie in the file."""
        swapped = not self.container.is_native
        changed = self.bytes_edit or self.values_edits or self.transposed or self.dtype != self.entry.dtype
        apart = (self.slot, self.part, self.order, self.columns, self.fused)
        return not (changed or swapped) and all(one is None for one in apart)

    @property
    def encoded_like(self) -> str | None:
        """The dtype that an edit says the values are encoded in, whatever they are stored as; None where none does."""
        likes = (edit.like for edit in self.values_edits if isinstance(edit, Encoded))
        return next((like for like in likes if like is not None), None)

    @property
    def rounded_to_nearest(self) -> bool:
        """Whether an edit says that each value was rounded by itself to one of the levels about it."""
        return any(isinstance(edit, Rounded) and edit.nearest for edit in self.values_edits)

    @property
    def fitted(self) -> bool:
        """Whether an edit fitted numbers to the other side's copy, many of them."""
        return any(isinstance(edit, Fitted) and edit.fitted for edit in self.values_edits)

    @property
    def without_rank(self) -> bool:
        """Whether an edit took a matrix of low rank off that was fitted to the other side's copy."""
        return any(isinstance(edit, OfLowRank) and edit.of_low_rank for edit in self.values_edits)

    def same_place(self, other: Weight) -> bool:
        """Whether two weights are read from the very same stored rows."""
        return self.entry is other.entry and self.slot == other.slot and self.part == other.part

    def beside(self, other: Weight) -> bool:
        """Whether two weights are parts of one stored matrix."""
        return self.entry is other.entry and self.slot == other.slot

    def _read(self, start: int, nbytes: int) -> NDArray[np.uint8]:
        """Some bytes of the stored matrix."""
        base = 0 if self.slot is None else self.slot[0] * self.nbytes
        return self.container.read(self.entry.name, base + start, nbytes)

    @property
    def count(self) -> int:
        return math.prod(self.dims)

    def raw(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8] | None:
        """Bytes of canonical rows start … stop, uint8 [rows, bytes a row]; None where rows are not whole bytes
        (a block that spans two rows, one scale for the tensor, a turned quantised matrix, edited values)."""
        last = (self.dims[0] if self.dims else 1) if stop is None else stop
        edited = any(edit.touches(start, last) for edit in self.values_edits)
        return None if edited else self._raw(start, stop)

    def stored_raw(self, start: int, stop: int) -> NDArray[np.uint8] | None:
        """`raw` of the values as they are before they are edited."""
        return self._raw(start, stop)

    def _raw(self, start: int, stop: int | None) -> NDArray[np.uint8] | None:
        rows = self._raw_rows(start, stop)
        if rows is None or self.columns is None:
            return rows
        if self.dtype not in FLOATS:
            return None  # columns of other blocks would come apart
        element = np.dtype(f"u{FLOATS[self.dtype].type_size}")
        values = np.ascontiguousarray(rows).view(element)
        return np.ascontiguousarray(values[:, self.columns.index(values.shape[1])]).view(np.uint8)

    def _raw_rows(self, start: int, stop: int | None) -> NDArray[np.uint8] | None:
        row_bytes = self._row_bytes()
        if row_bytes is None or (self.transposed and self.dtype not in FLOATS):
            return None
        if self.transposed:
            element, wanted = np.dtype(f"u{FLOATS[self.dtype].type_size}"), self._source_rows(start, stop)
            parts = [
                self._stored_rows(part, row_bytes).view(element)[:, wanted].T
                for part in self._parts(row_bytes)
            ]
            return np.ascontiguousarray(np.concatenate(parts, axis=1)).view(np.uint8)
        wanted = self._source_rows(start, stop)
        if self.bytes_edit is not None:
            return self._stored().reshape(-1, row_bytes)[wanted]
        if isinstance(wanted, slice):
            begin, size = wanted.start * row_bytes, max(wanted.stop - wanted.start, 0) * row_bytes
            return self._read(begin, size).reshape(-1, row_bytes)
        if not wanted.size:
            return np.empty((0, row_bytes), np.uint8)
        low, high = int(wanted.min()), int(wanted.max()) + 1
        if high - low > FAR_APART * wanted.size:
            return np.concatenate([self._read(int(row) * row_bytes, row_bytes) for row in wanted]).reshape(
                -1, row_bytes
            )
        # From the first to the last of the stored rows they are.
        stored = self._read(low * row_bytes, (high - low) * row_bytes)
        return stored.reshape(-1, row_bytes)[wanted - low]

    def place(self, stored: NDArray[np.uint8], rows: NDArray[np.uint8], start: int = 0) -> None:
        """Put canonical rows where `raw` reads them from: its inverse, for a tensor that is being made.

        Args:
            stored: all bytes of the stored matrix, in file order.
            rows: uint8 [rows, bytes a row], in the weight's dtype; of a float dtype where columns are reordered or
                the matrix is turned.
            start: the first of them.
        """
        wanted = self._source_rows(start, start + len(rows))
        if self.columns is not None:
            values = rows.view(f"u{FLOATS[self.dtype].type_size}")
            turned = np.empty_like(values)
            turned[:, self.columns.index(values.shape[1])] = values
            rows = turned.view(np.uint8)
        if self.transposed:
            element = np.dtype(f"u{FLOATS[self.dtype].type_size}")
            stored.view(element).reshape(self.stored_dims[0], -1)[:, wanted] = rows.view(element).T
        else:
            stored.reshape(-1, rows.shape[1])[wanted] = rows

    def _source_rows(self, start: int, stop: int | None) -> slice | NDArray[np.int64]:
        """Which rows of the whole tensor, turned where it is to be turned, the canonical rows start … stop are."""
        whole = self.stored_dims[::-1] if self.transposed else self.stored_dims
        part = self._part_of(whole)
        rows = part.count if part is not None else whole[0] if whole else 1
        stop = rows if stop is None else min(stop, rows)
        first = 0 if part is None else part.first
        scattered = part is not None and (part.groups > 1 or bool(part.also))
        if self.order is None and not scattered:
            return slice(first + start, first + stop)
        index = np.arange(rows) if self.order is None else self.order.index(rows)
        wanted: NDArray[np.int64] = index[start:stop]
        return part.index()[wanted] if scattered and part is not None else first + wanted

    @property
    def rows_of_whole(self) -> NDArray[np.int64]:
        """For each canonical row the row of the whole tensor, turned where it is to be turned."""
        rows = self._source_rows(0, None)
        return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows

    def with_rows(self, rows: NDArray[np.int64], total: int) -> Weight:
        """The weight that is read from these of the whole tensor's rows, `total` in all."""
        part = Part(0, (len(rows), total - len(rows)))
        return replace(self, part=part, order=Chosen(tuple(rows.tolist())))

    def _parts(self, row_bytes: int) -> list[tuple[int, int]]:
        """The stored bytes cut into ranges of whole rows, (first, after the last)."""
        step = max(1, TURNED_AT_ONCE // row_bytes) * row_bytes
        return [(begin, min(begin + step, self.nbytes)) for begin in range(0, self.nbytes, step)]

    def _stored_rows(self, part: tuple[int, int], row_bytes: int) -> NDArray[np.uint8]:
        """The stored rows of a range of bytes, uint8 [rows, bytes a row]."""
        begin, end = part
        if self.bytes_edit is not None:
            return self._stored()[begin:end].reshape(-1, row_bytes)
        return self._read(begin, end - begin).reshape(-1, row_bytes)

    def values(
        self, start: int = 0, stop: int | None = None, device: Device = "cpu", out: Tensor | None = None
    ) -> Tensor:
        """Canonical rows start … stop as float32, [rows, C] ([rows] of a vector).

        Args:
            start, stop: the rows; all of them by default.
            device: where they are decoded: the bytes are a fraction of what the values would be.
            out: float32 memory on that device of at least as many weights, which is used where the layout allows.
        """
        values = self._decoded(partial(_decoded_into, out), start, stop, device)
        for edit in self.values_edits:
            values = edit.values(values, start)
        return values

    def sigma(self, start: int = 0, stop: int | None = None, device: Device = "cpu") -> Tensor:
        """Standard deviation of the rounding of each weight that its dtype explains, as `values` gives these."""
        sigma = self._decoded(blocks.sigma, start, stop, device)
        if self.values_edits:
            values = self._decoded(blocks.decode, start, stop, device)
            for edit in self.values_edits:
                sigma, values = edit.sigma(sigma, values, start), edit.values(values, start)
        return sigma

    def variance(self, start: int = 0, stop: int | None = None, device: Device = "cpu") -> Tensor:
        """`sigma` squared."""
        if self.values_edits:
            return self.sigma(start, stop, device).square_()
        return self._decoded(blocks.variance, start, stop, device)

    def values_and_variance(
        self, start: int, stop: int, device: Device = "cpu", added_to: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both of canonical rows start … stop, of bytes that are read once where rows are whole bytes; the variance is
        added to another one where one is given."""
        raw = None if self.values_edits else self.raw(start, stop)  # an edit may concern their noise alone
        if raw is None:
            values, variance = self.values(start, stop, device), self.variance(start, stop, device)
            return values, variance if added_to is None else added_to.add_(variance)
        dims = (len(raw), *self.dims[1:])
        return blocks.values_and_variance(self.dtype, _on(device, raw), dims, added_to)

    def corner(self, rows: int, columns: int) -> Tensor:
        """The first canonical rows, float32 [rows, columns]; of a turned matrix only their first columns, for
        which the stored rows behind them need not be decoded."""
        block = blocks.block_format(self.dtype)
        edited = self.bytes_edit is not None or any(edit.touches(0, rows) for edit in self.values_edits)
        plain = self.transposed and self.columns is None and not edited
        if not plain or len(self.stored_dims) != 2 or not block.block_size:
            return self.values(0, rows)
        count, width = min(columns, self.stored_dims[0]), self.stored_dims[1]
        row_bytes = self._row_bytes()
        whole_blocks = -(-count * width // block.block_size)  # where they run on from row to row
        dims = (whole_blocks * block.block_size,) if row_bytes is None else (count, width)
        size = whole_blocks * block.type_size if row_bytes is None else count * row_bytes
        data = torch.from_numpy(self._read(0, size))
        stored = blocks.decode(self.dtype, data, dims).view(-1)[: count * width].view(count, width)
        return stored[:, self._source_rows(0, rows)].T

    def rows(self, indices: Sequence[int]) -> Tensor:
        """The given canonical rows as float32 [len(indices), C], reading no others where the layout allows."""
        return self._rows(blocks.decode, Weight.values, indices)

    def sigma_rows(self, indices: Sequence[int]) -> Tensor:
        """`sigma` of the given canonical rows."""
        return self._rows(blocks.sigma, Weight.sigma, indices)

    def step_rows(self, indices: Sequence[int]) -> Tensor:
        """How far apart the levels of the given canonical rows are as they are stored, see `blocks.step`."""

        def steps(weight: Weight, start: int, stop: int | None) -> Tensor:
            return weight._decoded(blocks.step, start, stop, "cpu")

        return self._rows(blocks.step, steps, indices)

    def _rows(
        self,
        decode: blocks.Decoder,
        of_range: Callable[[Weight, int, int | None], Tensor],
        indices: Sequence[int],
    ) -> Tensor:
        """Some rows, decoded together: of a few that follow each other the call takes as long as the work.

        Args:
            decode: their bytes.
            of_range: gives the same of rows start … stop.
            indices: the rows.
        """
        if not indices:
            return of_range(self, 0, 0)
        if (
            self._row_bytes() is None
            or self.transposed
            or self.order is not None
            or self.bytes_edit is not None
        ):
            return of_range(self, 0, None)[list(indices)]
        runs = list(_runs(indices))
        raw = [] if self.values_edits else [self._raw(*run) for run in runs]
        known = [rows for rows in raw if rows is not None]
        if len(known) < len(runs):
            return torch.cat([of_range(self, *run) for run in runs])
        together = np.concatenate(known)
        return decode(self.dtype, _on("cpu", together), (len(together), *self.dims[1:]))

    def decoded(self, raw: NDArray[np.uint8], device: Device = "cpu", out: Tensor | None = None) -> Tensor:
        """The values of canonical rows of which `raw` gave the bytes, see `values`."""
        return _decoded_into(out, self.dtype, _on(device, raw), (len(raw), *self.dims[1:]))

    def _decoded(self, decode: blocks.Decoder, start: int, stop: int | None, device: Device) -> Tensor:
        raw = self._raw(start, stop)
        if raw is not None:
            dims = (len(raw), *self.dims[1:])
            return decode(self.dtype, _on(device, raw), dims)
        values = self._decoded_rows(decode, start, stop, device)
        if self.columns is None:
            return values
        return values[:, self.columns.index(values.shape[1])].contiguous()

    def _decoded_rows(self, decode: blocks.Decoder, start: int, stop: int | None, device: Device) -> Tensor:
        row_bytes, wanted = self._row_bytes(), self._source_rows(start, stop)
        if self.transposed and row_bytes is not None:

            def columns(part: tuple[int, int]) -> Tensor:
                rows = self._stored_rows(part, row_bytes)
                dims = (len(rows), *self.stored_dims[1:])
                return decode(self.dtype, _on(device, rows), dims)[:, wanted].T.contiguous()

            return torch.cat(spread(columns, self._parts(row_bytes)), dim=1)
        whole = decode(self.dtype, _on(device, self._stored()), self.stored_dims)
        return (whole.T if self.transposed else whole)[wanted].contiguous()

    def _stored(self) -> NDArray[np.uint8]:
        """All bytes of the stored matrix in file order."""
        data = self._read(0, self.nbytes)
        return data if self.bytes_edit is None else self.bytes_edit(data)

    def _part_of(self, whole: tuple[int, ...]) -> Part | None:
        """The part of the whole tensor that this weight is; None where it is all of it."""
        part = self.part
        return None if part is None or not whole or whole[0] != part.total else part

    def _row_bytes(self) -> int | None:
        rows = self.stored_dims[0] if self.stored_dims else 1
        columns = math.prod(self.stored_dims[1:])
        block = blocks.block_format(self.dtype)
        if self.dtype == "APR_Q8" or rows == 0 or self.nbytes == 0 or self.nbytes % rows:
            return None
        row_bytes = self.nbytes // rows
        if row_bytes % block.type_size or row_bytes // block.type_size != -(-columns // block.block_size):
            return None
        return row_bytes


def _decoded_into(out: Tensor | None, dtype: str, raw: Tensor, dims: Sequence[int]) -> Tensor:
    """`blocks.decode` into the beginning of some memory, where it is large enough."""
    count = math.prod(dims)
    return blocks.decode(dtype, raw, dims, None if out is None or out.numel() < count else out[:count])


def _runs(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(start, stop) of rows that follow each other.

    >>> list(_runs([3, 4, 5, 9, 2]))
    [(3, 6), (9, 10), (2, 3)]
    """
    start = stop = indices[0]
    for index in indices:
        if index != stop:
            yield start, stop
            start = index
        stop = index + 1
    yield start, stop


def row_ranges(weight: Weight, weights: int | None = None) -> list[tuple[int, int]]:
    """A matrix cut into ranges of rows, (first, after the last), of about so many weights each, `WEIGHTS_AT_ONCE` by
    default."""
    total = weight.dims[0] if weight.dims else 1
    rows = max(1, (weights or WEIGHTS_AT_ONCE) // max(1, weight.count // max(1, total)))
    return [(start, min(start + rows, total)) for start in range(0, total, rows)]


def _on(device: Device, data: NDArray[np.uint8]) -> Tensor:
    """Bytes, flat, on a device."""
    return torch.from_numpy(data.reshape(-1)).to(device)
