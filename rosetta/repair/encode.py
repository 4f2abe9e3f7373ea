"""A repaired weight as the bytes of a stored tensor: its own bytes wherever they can say it, never rounded again.

Letters: R = rows, C = columns of a weight, row-major; n = blocks a row, B = weights a block, S = bytes a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta import blocks
from rosetta.compare.weights import compare_weights
from rosetta.containers.container import Container, Setting, TensorEntry, TensorInput
from rosetta.diagnose.edits import FromOther
from rosetta.repair.padding import FirstRows
from rosetta.repair.planned import Held, Planned
from rosetta.weight import FLOATS, Order, Part, Weight

Holds = Callable[[TensorInput, bool], bool]
"""Whether a file can hold a tensor: one of its own bytes, or (True) one whose bytes come from another file."""

# Two encoders of one dtype round a weight to levels at most a step apart, which is 2.45 σ of their difference,
# each σ being step/√12 (docs/noise.md). A reference's block that is farther off holds something else.
WITHIN_SIGMAS = 3.0
WEIGHTS_AT_ONCE = 1 << 22  # decoded beside each other: a large embedding takes a gigabyte in float32
TORCH_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Encoded:
    """A tensor ready to be written.

    Args:
        tensor: its bytes.
        taken: whether it is the other side's as a whole, because the file's own dtype cannot say what the repair
            makes of the file's own values, and another one would claim a precision that they have not.
    """

    tensor: TensorInput
    taken: bool = False


class Drafted:
    """A container of one tensor that is not written yet, so that it can be judged as a reader will."""

    kind, label, path, architecture = "draft", "draft", Path(), None
    metadata: Mapping[str, Any] = MappingProxyType({})
    settings: Mapping[str, Setting] = MappingProxyType({})
    notes: tuple[str, ...] = ()

    def __init__(self, tensor: TensorInput) -> None:
        self.entry = TensorEntry(tensor.name, tensor.dtype, tensor.dims, tensor.data.nbytes)
        self.tensors: Mapping[str, TensorEntry] = {tensor.name: self.entry}
        self.file_bytes, self._data = tensor.data.nbytes, tensor.data.reshape(-1)

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        """See `Container.read`."""
        return self._data[start : None if nbytes is None else start + nbytes].copy()

    def close(self) -> None:
        """Nothing is open."""


def encoded(planned: Planned, holds: Holds, other: Mapping[str, Weight], home: Container) -> Encoded:
    """The bytes of a tensor: those of the file where they can stay, else the least change that is exact.

    Repaired values that no dtype holds honestly (those of a turned or rescaled quantised matrix are no more
    precise for being written as F32) are not rounded again: the other side's tensor takes their place.

    Args:
        planned: a tensor that is not merely copied.
        holds: what the file to be written can hold.
        other: the other side's weights.
        home: the file that is repaired.
    """
    own = next(_drafts(planned, holds, home))
    if _passes(planned, own, other):
        return Encoded(own)
    in_full = _in_float32(planned)
    if _passes(planned, in_full, other):
        return Encoded(in_full)
    theirs = tuple(
        taken for held in planned.held for taken in _taken_with_padding(held, other[held.weight.name])
    )
    return Encoded(next(_drafts(replace(planned, held=theirs), holds, home)), taken=True)


def _drafts(planned: Planned, holds: Holds, home: Container) -> Iterator[TensorInput]:
    """Exact forms of a tensor that the file can hold, those nearest to the bytes at hand first."""
    foreign = any(held.weight.container is not home for held in planned.held)
    for form in (_verbatim, _rearranged):
        yield from (draft for draft in form(planned) if holds(draft, foreign))
    yield _in_float32(planned)


def _passes(planned: Planned, draft: TensorInput, other: Mapping[str, Weight]) -> bool:
    """Whether a comparison will find in a tensor no more difference than its dtype explains; where the dtype is
    the stored one and no value changes, it is what the repair was proven with."""
    weights = [held.weight for held in planned.held]
    if all(not w.values_edits and w.dtype == draft.dtype for w in weights):
        return True
    if not all(w.name in other and other[w.name].dims[1:] == w.dims[1:] for w in weights):
        return True  # there is nothing to take instead
    source = Drafted(draft)
    for held in planned.held:
        name, theirs, part = held.weight.name, other[held.weight.name], held.part
        padding = held.weight.dims[0] - theirs.dims[0] if theirs.dims else 0
        if padding > 0 and part is None:
            part = Part(0, (theirs.dims[0], padding))
        read = Weight(
            name,
            source,
            source.entry,
            draft.dtype,
            draft.dims,
            planned.transposed,
            part=part,
            order=held.order,
        )
        if compare_weights(read, theirs).state == "differing":
            return False
    return True


def _taken_with_padding(held: Held, other: Weight) -> Iterator[Held]:
    """The other side's weight, and behind it the rows of padding that only this side has."""
    yield replace(held, weight=other)
    own = held.weight
    rows = (other.dims[0], own.dims[0] - other.dims[0]) if own.dims and other.dims else (1, 0)
    if rows[1] > 0:
        yield replace(held, weight=replace(own, part=Part(1, rows), values_edits=()))


def _in_float32(planned: Planned) -> TensorInput:
    """The repaired values as they are computed with."""
    parts = [_in_file_order(held.weight.values().numpy(), held.order) for held in planned.held]
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    values = np.ascontiguousarray(values.T if planned.transposed else values)
    return TensorInput(planned.name, "F32", values.shape, values.reshape(-1).view(np.uint8))


def _verbatim(planned: Planned) -> Iterator[TensorInput]:
    """All bytes of one stored tensor as they lie, where a reader will take them apart as the repair does."""
    first = planned.held[0].weight
    for held in planned.held:
        w = held.weight
        as_read = replace(first, name=w.name, order=held.order, part=held.part, transposed=planned.transposed)
        if w != replace(as_read, values_edits=()):
            return
    data = first.container.read(first.entry.name, 0, first.entry.nbytes)
    data = data if first.bytes_edit is None else first.bytes_edit(data)
    yield TensorInput(planned.name, first.dtype, first.stored_dims, data)


def _rearranged(planned: Planned) -> Iterator[TensorInput]:
    """The bytes of rows, in the file's order, and turned where the file has them turned."""
    weights = [held.weight for held in planned.held]
    dtype, dims = weights[0].dtype, weights[0].dims
    if any(w.dtype != dtype or w.dims[1:] != dims[1:] for w in weights):
        return
    if planned.transposed and dtype not in FLOATS:
        return
    parts = []
    for held in planned.held:
        rows = exact_bytes(held.weight)
        if rows is None:
            return
        if len(rows) != (dims[0] if dims else 1) and len(weights) == 1:  # blocks that span rows
            if held.order is None and not planned.transposed:
                yield TensorInput(planned.name, dtype, dims, rows.reshape(-1))
            return
        parts.append(_in_file_order(rows, held.order))
    data = np.concatenate(parts)
    dims = (len(data), *dims[1:]) if dims else dims
    if planned.transposed:
        data = np.ascontiguousarray(data.view(f"u{FLOATS[dtype]}").T).view(np.uint8)
        dims = dims[::-1]
    yield TensorInput(planned.name, dtype, dims, np.ascontiguousarray(data).reshape(-1))


def _in_file_order(rows: NDArray[Any], order: Order | None) -> NDArray[Any]:
    """Canonical rows in the order in which the file keeps them."""
    if order is None:
        return rows
    stored = np.empty_like(rows)
    stored[order.index(len(rows))] = rows
    return stored


def exact_bytes(weight: Weight) -> NDArray[np.uint8] | None:
    """Bytes in the weight's own dtype that decode to its repaired values; None where there are none.

    A block that the repair leaves alone keeps its bytes. One of which it takes values from the other side is the
    other side's block where the dtypes are the same and the rest of the block agrees within their rounding.

    Returns:
        uint8 [R, bytes a row]; [1, bytes] where blocks span rows.
    """
    raw = weight.raw()
    if raw is not None:
        return raw
    stored = replace(weight, values_edits=())
    own = _block_rows(stored)
    if own is None or blocks.block_format(weight.dtype).block_size == 0:
        return None
    rows = weight.dims[0] if weight.dims else 1
    step = rows
    if len(own) == rows and not (weight.order or weight.transposed or weight.bytes_edit):
        step = max(1, WEIGHTS_AT_ONCE * rows // max(1, weight.count))
    for start in range(0, rows, max(step, 1)):
        part = own[start : start + step] if len(own) == rows else own
        repaired = _exact_rows(weight, stored, part, start, start + step)
        if repaired is None:
            return None
        part[:] = repaired
    return own


def _exact_rows(
    weight: Weight, stored: Weight, own: NDArray[np.uint8], start: int, stop: int
) -> NDArray[np.uint8] | None:
    """`exact_bytes` of rows start … stop, whose bytes as stored are `own`."""
    block = blocks.block_format(weight.dtype)
    wanted = _by_block(weight.values(start, stop), own, block)  # [rows, n, B]
    changed = ~_same(wanted, _by_block(stored.values(start, stop), own, block)).all(dim=2)  # [rows, n]
    data = own.reshape(*wanted.shape[:2], block.type_size).copy()  # [rows, n, S]
    changed &= ~_taken_whole(data, wanted, changed, weight, start, stop)
    left = changed.numpy()
    if left.any():
        encoded = _encoded_floats(wanted[changed], weight.dtype)
        if encoded is None:
            return None
        data[left] = encoded
    return data.reshape(len(own), -1)


def _block_rows(weight: Weight) -> NDArray[np.uint8] | None:
    """The bytes of a weight by rows, or in one row where blocks span rows; None where neither can be told."""
    rows = weight.raw()
    whole = weight.part is None and weight.order is None and not weight.transposed
    if rows is not None or not whole:
        return rows
    data = weight.container.read(weight.entry.name, 0, weight.entry.nbytes)
    data = data if weight.bytes_edit is None else weight.bytes_edit(data)
    return data[None] if len(data) == blocks.nbytes(weight.dtype, weight.stored_dims) else None


def _by_block(values: Tensor, rows: NDArray[np.uint8], block: blocks.BlockFormat) -> Tensor:
    """Values [R, C] as [rows, n, B]; the weights that fill up a row's last block are zeros."""
    count = rows.shape[1] // block.type_size
    flat = values.reshape(len(rows), -1)
    padding = count * block.block_size - flat.shape[1]
    return torch.nn.functional.pad(flat, (0, padding)).view(len(rows), count, block.block_size)


def _taken_whole(
    data: NDArray[np.uint8], wanted: Tensor, changed: Tensor, weight: Weight, start: int, stop: int
) -> Tensor:
    """Put the other side's blocks in the place of changed ones where they may be; bool [rows, n], which."""
    taken = torch.zeros_like(changed)
    every = [edit.edit if isinstance(edit, FirstRows) else edit for edit in weight.values_edits]
    edits = [edit for edit in every if isinstance(edit, FromOther)]
    if not edits or not bool(changed.any()):
        return taken
    other, block = edits[-1].other, blocks.block_format(weight.dtype)
    theirs = None if other.values_edits else _block_rows(other)
    if other.dtype != weight.dtype or other.dims[1:] != weight.dims[1:] or theirs is None:
        return taken
    theirs = theirs[start:stop] if len(theirs) == (other.dims[0] if other.dims else 1) else theirs
    rows = len(theirs)  # fewer than here where this side's vocabulary has padding behind it
    if rows > len(data) or theirs.shape[1] != math.prod(data.shape[1:]):
        return taken
    held = _by_block(other.values(start, stop), theirs, block)
    agrees = _same(wanted[:rows], held)
    if block.block_size > 1 and len(edits) == len(every):
        own = _by_block(weight.sigma(start, stop), data.reshape(len(data), -1), block)[:rows]
        variance = own.square() + _by_block(other.sigma(start, stop), theirs, block).square()
        agrees |= (wanted[:rows] - held).square() <= WITHIN_SIGMAS**2 * variance
    taken[:rows] = changed[:rows] & agrees.all(dim=2)
    data[taken.numpy()] = theirs.reshape(rows, *data.shape[1:])[taken[:rows].numpy()]
    return taken


def _encoded_floats(values: Tensor, dtype: str) -> NDArray[np.uint8] | None:
    """Values [k, 1] as bytes [k, S] of a float dtype that holds each of them exactly, else None."""
    if dtype not in TORCH_FLOATS:
        return None
    stored = values.to(TORCH_FLOATS[dtype])
    if not bool(_same(stored.float(), values).all()):
        return None
    data: NDArray[np.uint8] = stored.contiguous().view(torch.uint8).reshape(len(values), -1).numpy()
    return data


def _same(a: Tensor, b: Tensor) -> Tensor:
    """Where two values are equal, NaN being equal to NaN."""
    return (a == b) | (a.isnan() & b.isnan())
