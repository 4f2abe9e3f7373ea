"""A repaired weight as the bytes of a stored tensor: its own bytes wherever they can say it, never rounded again.

Letters: R = rows, C = columns of a weight, row-major; n = blocks a row, B = weights a block, S = bytes a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta import blocks
from rosetta.compare.weights import compare_weights
from rosetta.containers.container import Container, TensorInput
from rosetta.diagnose.edits import FromOther
from rosetta.diagnose.patches import InMemory
from rosetta.dtypes import FLOATS
from rosetta.errors import UnsupportedError
from rosetta.repair.padding import FirstRows
from rosetta.repair.planned import Held, Planned
from rosetta.row_order import Order, Part
from rosetta.weight import Weight

Holds = Callable[[TensorInput, bool], bool]
"""Whether a file can hold a tensor: one of its own bytes, or (True) one whose bytes come from another file."""

# Two encoders of one dtype round a weight to levels at most a step apart, which is 2.45 σ of their difference,
# each σ being step/√12 (docs/noise.md). A reference's block that is farther off holds something else.
WITHIN_SIGMAS = 3.0
WEIGHTS_AT_ONCE = 1 << 22  # decoded beside each other: a large embedding takes a gigabyte in float32


@dataclass(frozen=True)
class EncodedTensor:
    """A tensor ready to be written.

    Args:
        tensor: its bytes.
        taken: how much of it is the other side's as a whole, because the file's own dtype cannot say what the repair
            makes of the file's own values, and another one would claim a precision that they have not: none or all of
            a matrix, some of the experts in a stack.
    """

    tensor: TensorInput
    taken: float = 0.0


def encoded(planned: Planned, holds: Holds, other: Mapping[str, Weight], home: Container) -> EncodedTensor:
    """The bytes of a tensor: those of the file where they can stay, else the least change that is exact.

    Repaired values that no dtype holds honestly (those of a turned or rescaled quantised matrix are no more
    precise for being written as F32) are not rounded again: the other side's tensor takes their place.

    Args:
        planned: a tensor that is not merely copied.
        holds: what the file to be written can hold.
        other: the other side's weights.
        home: the file that is repaired.

    Raises:
        UnsupportedError: experts that no one dtype can hold lie in one tensor.
    """
    planned = replace(planned, held=tuple(held.as_stored() for held in planned.held))
    slots = planned.slots()
    if slots:
        return _stacked(slots, holds, other, home)
    found = _whole(planned, holds, other, home)
    return replace(found, tensor=_with_own_dims(planned, found.tensor))


def _with_own_dims(planned: Planned, tensor: TensorInput) -> TensorInput:
    """The dims that the file has, where a reading has others: those of a vector, of which it makes one column."""
    original = planned.original
    edited = any(held.edit is not None for held in planned.held)
    if original is None or not edited or math.prod(original.dims) != math.prod(tensor.dims):
        return tensor
    return replace(tensor, dims=original.dims)


def _whole(planned: Planned, holds: Holds, other: Mapping[str, Weight], home: Container) -> EncodedTensor:
    """See `encoded`: of a tensor that is one matrix."""
    own = next(_drafts(planned, holds, home))
    if _passes(planned, own, other):
        return EncodedTensor(own)
    in_full = _in_float32(planned)
    if _passes(planned, in_full, other):
        return EncodedTensor(in_full)
    return EncodedTensor(next(_drafts(_theirs(planned, other), holds, home)), taken=1.0)


def _theirs(planned: Planned, other: Mapping[str, Weight]) -> Planned:
    """The same tensor made of the other side's weights."""
    held = (taken for held in planned.held for taken in _taken_with_padding(held, other[held.weight.name]))
    return replace(planned, held=tuple(one.as_stored() for one in held))


def _stacked(
    slots: list[Planned], holds: Holds, other: Mapping[str, Weight], home: Container
) -> EncodedTensor:
    """The matrices of a stack one after another, all of one dtype.

    Args:
        slots: each matrix as a tensor by itself.
        holds, other, home: see `encoded`.

    Raises:
        UnsupportedError: see `encoded`.
    """

    def holds_stack(tensor: TensorInput, foreign: bool) -> bool:
        return holds(replace(tensor, dims=(1, *tensor.dims)), foreign)  # where one fits, all do

    own = [next(_drafts(slot, holds_stack, home)) for slot in slots]
    fits = [_passes(slot, draft, other) for slot, draft in zip(slots, own, strict=True)]
    if all(fits) and _alike(own):
        return EncodedTensor(_joined(own))
    in_full = [_in_float32(slot) for slot in slots]
    if all(_passes(slot, draft, other) for slot, draft in zip(slots, in_full, strict=True)):
        return EncodedTensor(_joined(in_full))
    if all(held.weight.name in other for slot in slots for held in slot.held):
        theirs = [next(_drafts(_theirs(slot, other), holds_stack, home)) for slot in slots]
        some = [mine if fit else taken for mine, taken, fit in zip(own, theirs, fits, strict=True)]
        for drafts, taken in ((some, fits.count(False)), (theirs, len(slots))):
            if taken and _alike(drafts):
                return EncodedTensor(_joined(drafts), taken=taken / len(slots))
    raise UnsupportedError(
        "holds stacked experts, which no one dtype can hold once they are repaired",
        file=home.path,
        where=f"tensor {slots[0].name}",
        remedy="export the model again",
    )


def _alike(drafts: list[TensorInput]) -> bool:
    """Whether matrices can be stacked."""
    return len({(draft.dtype, tuple(draft.dims)) for draft in drafts}) == 1


def _joined(drafts: list[TensorInput]) -> TensorInput:
    """Matrices stacked in one tensor."""
    data = np.concatenate([draft.data.reshape(-1) for draft in drafts])
    return TensorInput(drafts[0].name, drafts[0].dtype, (len(drafts), *drafts[0].dims), data)


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
    source = InMemory(draft)  # judged as a reader will
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
            values_edits=() if held.edit is None else (held.edit,),
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
    values = _together(planned, parts)
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
    yield TensorInput(planned.name, first.dtype, first.stored_dims, _stored_bytes(first))


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
    data = _together(planned, parts)
    dims = (len(data), *dims[1:]) if dims else dims
    if planned.transposed:
        data = np.ascontiguousarray(data.view(f"u{FLOATS[dtype].type_size}").T).view(np.uint8)
        dims = dims[::-1]
    yield TensorInput(planned.name, dtype, dims, np.ascontiguousarray(data).reshape(-1))


def _stored_bytes(weight: Weight) -> NDArray[np.uint8]:
    """All bytes of a weight's stored matrix in file order."""
    start = 0 if weight.slot is None else weight.slot[0] * weight.nbytes
    data = weight.container.read(weight.entry.name, start, weight.nbytes)
    return data if weight.bytes_edit is None else weight.bytes_edit(data)


def _together(planned: Planned, parts: list[NDArray[Any]]) -> NDArray[Any]:
    """The rows of all that a tensor holds where a reader will look for them: parts may lie between each other."""
    if len(parts) == 1:
        return parts[0]
    places = [held.part for held in planned.held if held.part is not None]
    total = sum(map(len, parts))
    if len(places) < len(parts) or any(place.total != total for place in places):
        return np.concatenate(parts)
    whole = np.empty((total, *parts[0].shape[1:]), parts[0].dtype)
    for place, rows in zip(places, parts, strict=True):
        whole[place.index()] = rows
    return whole


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
    data = _stored_bytes(weight)
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
    if dtype not in blocks.TORCH_FLOATS:
        return None
    stored = values.to(blocks.TORCH_FLOATS[dtype])
    if not bool(_same(stored.float(), values).all()):
        return None
    data: NDArray[np.uint8] = stored.contiguous().view(torch.uint8).reshape(len(values), -1).numpy()
    return data


def _same(a: Tensor, b: Tensor) -> Tensor:
    """Where two values are equal, NaN being equal to NaN."""
    return (a == b) | (a.isnan() & b.isnan())
