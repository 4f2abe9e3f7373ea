"""A repaired weight as the bytes of a stored tensor: its own bytes wherever they can say it, never rounded again.

Letters: R = rows, C = columns of a weight, row-major; n = blocks of a row, B = weights a block, S = bytes a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta import blocks
from rosetta.containers.container import TensorInput
from rosetta.diagnose.edits import FromOther
from rosetta.repair.planned import Held, Planned
from rosetta.weight import FLOATS, RowOrder, Weight

Bytes = NDArray[np.uint8]
Holds = Callable[[str, tuple[int, ...]], bool]
"""Whether a file can hold a tensor of a dtype and row-major dims."""

# Two encoders of one quantised dtype round a weight to levels at most a step apart: 2.45 σ of their difference,
# each σ being step/√12 (docs/noise.md). Beyond it the reference's block is another one.
WITHIN_SIGMAS = 3.0
TORCH_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Encoded:
    """A tensor ready to be written.

    Args:
        tensor: its bytes.
        exact_in: the dtype that could not say the repaired values, where another one had to be taken.
    """

    tensor: TensorInput
    exact_in: str | None = None


def encoded(planned: Planned, holds: Holds) -> Encoded:
    """The bytes of a tensor: those of the file where they can stay, else the least change that is exact.

    Args:
        planned: a tensor that is not merely copied.
        holds: what the file to be written can hold.
    """
    for found in _attempts(planned):
        if holds(found.dtype, found.dims):
            return Encoded(found)
    values = np.concatenate([_in_file_order(h.weight.values().numpy(), h.order) for h in planned.held])
    values = np.ascontiguousarray(values.T) if planned.transposed else values
    dtype = planned.held[0].weight.dtype
    tensor = TensorInput(planned.name, "F32", values.shape, values.reshape(-1).view(np.uint8))
    return Encoded(tensor, None if dtype == "F32" else dtype)


def _attempts(planned: Planned) -> Iterator[TensorInput]:
    yield from _verbatim(planned)
    yield from _rearranged(planned)


def _verbatim(planned: Planned) -> Iterator[TensorInput]:
    """All bytes of one stored tensor as they lie, where a reader will take them apart as the repair does."""
    first = planned.held[0].weight
    source = (first.container, first.entry, first.dtype, first.stored_dims, first.bytes_edit)
    for held in planned.held:
        w = held.weight
        if (w.container, w.entry, w.dtype, w.stored_dims, w.bytes_edit) != source or w.values_edits:
            return
        if w.order != held.order or w.part != held.part or w.transposed != planned.transposed:
            return
    data = first.container.read(first.entry.name)
    data = data if first.bytes_edit is None else first.bytes_edit(data)
    yield TensorInput(planned.name, first.dtype, first.stored_dims, data)


def _rearranged(planned: Planned) -> Iterator[TensorInput]:
    """The bytes of rows, in the file's order and turned where the file has them turned."""
    dtype, dims = planned.held[0].weight.dtype, planned.held[0].weight.dims
    if any(h.weight.dtype != dtype or h.weight.dims[1:] != dims[1:] for h in planned.held):
        return
    if planned.transposed and dtype not in FLOATS:
        return
    parts = [exact_bytes(held.weight) for held in planned.held]
    if len(parts) == 1 and parts[0] is not None and len(parts[0]) != (dims[0] if dims else 1):
        if planned.held[0].order is None and not planned.transposed:  # blocks that span rows
            yield TensorInput(planned.name, dtype, dims, parts[0].reshape(-1))
        return
    rows = [_in_file_order(p, h.order) for p, h in zip(parts, planned.held, strict=True) if p is not None]
    if len(rows) < len(parts):
        return
    data = np.concatenate(rows)
    dims = (len(data), *dims[1:]) if dims else dims
    if planned.transposed:
        data = np.ascontiguousarray(data.view(f"u{FLOATS[dtype]}").T).view(np.uint8)
        dims = dims[::-1]
    yield TensorInput(planned.name, dtype, dims, np.ascontiguousarray(data).reshape(-1))


def _in_file_order[Rows: NDArray[np.generic]](rows: Rows, order: RowOrder | None) -> Rows:
    """Canonical rows in the order in which the file keeps them."""
    if order is None:
        return rows
    stored = np.empty_like(rows)
    stored[order.index(len(rows))] = rows
    return stored


def exact_bytes(weight: Weight) -> Bytes | None:
    """Bytes in the weight's own dtype that decode to exactly its repaired values; None where there are none.

    A block whose values the repair leaves alone keeps its bytes. One that the repair takes from the reference
    is the reference's block where that has the same dtype, even if not all its weights had been damaged.

    Returns:
        uint8 [R, bytes a row]; [1, bytes] where blocks span rows.
    """
    raw = weight.raw()
    if raw is not None:
        return raw
    own = _blocks_of(weight.as_repaired_bytes())
    if own is None:
        return None
    size, count = blocks.block_format(weight.dtype).type_size, blocks.block_format(weight.dtype).block_size
    wanted = _by_block(weight.values(), own, count)  # [rows, n, B]
    touched = ~_same(wanted, _by_block(weight.as_repaired_bytes().values(), own, count))
    data = own.reshape(*wanted.shape[:2], size)  # [rows, n, S]
    changed = touched.any(dim=2)
    for edit in weight.values_edits:
        if isinstance(edit, FromOther):
            changed &= ~_taken(data, wanted, changed, weight, edit.other)
    left = changed.numpy()
    if left.any():
        if weight.dtype not in TORCH_FLOATS:
            return None
        values = wanted[changed]  # [blocks, 1]
        stored = values.to(TORCH_FLOATS[weight.dtype])
        if not bool(_same(stored.float(), values).all()):
            return None
        data[left] = stored.contiguous().view(torch.uint8).reshape(-1, size).numpy()
    return data.reshape(len(own), -1)
