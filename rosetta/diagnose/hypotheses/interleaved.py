"""Blocks of a few rows side by side, as a repacked file keeps them for a processor's vectors; or the columns of several
ranks, which belong side by side, one rank after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rosetta import blocks
from rosetta.containers.container import TensorInput
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, looks_like
from rosetta.diagnose.patches import for_all_names, in_memory, reading, weight_of
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "layout.interleaved",
        means="Blocks of a few rows lie side by side; or parts of all rows lie one after another.",
        why="The file was written from weights that had been repacked for a processor's vectors. Or the parts of a "
        "matrix whose columns were spread over several ranks were joined along the rows.",
        repair="The rows are taken apart, or put together. Undo the repacking before the file is written; join the "
        "ranks along the columns.",
        whole=True,
    ),
)

TOGETHER = (2, 4, 8, 16)  # rows
RANKS = (2, 4, 8, 16)
WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # weights of a block


@dataclass(frozen=True)
class TakenApart:
    """Bytes of groups of rows whose blocks lie side by side, put into rows.

    Args:
        rows: of a group.
        row_bytes, block_bytes: of a row, and of a block of it.
    """

    rows: int
    row_bytes: int
    block_bytes: int

    def __call__(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        group = self.rows * self.row_bytes
        whole = len(data) // group * group
        packed = data[:whole].reshape(-1, self.row_bytes // self.block_bytes, self.rows, self.block_bytes)
        return np.concatenate([packed.swapaxes(1, 2).reshape(-1), data[whole:]])


def propose(fault: Fault) -> Iterator[Proposal]:
    """The number of rows and the width of blocks at which each accused matrix resembles the other side's."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims or len(weight.dims) != 2:
            continue
        if weight.transposed or weight.bytes_edit is not None or looks_like(weight, other):
            continue
        found = _fitting(weight, other)
        if found is None:
            continue
        edit, width = found
        if edit.rows == weight.stored_dims[0]:
            count = weight.stored_dims[1] // width
            said = f"holds {count} parts of {width} columns one after another: it was joined along the wrong axis"
            done = f"join the {count} parts of {weight.entry.name} along the columns, not along the rows"
        else:
            said = f"has blocks of {width} weights of {edit.rows} rows side by side: it was repacked"
            done = f"undo the interleaving of {weight.entry.name} before it is written: {edit.rows} rows, "
            done += f"blocks of {width}"
        yield Proposal(
            kind="layout.interleaved",
            role=suspect.role,
            repair=Repair(patches=for_all_names(suspect.model, weight, reading(bytes_edit=edit))),
            tensor=weight.name,
            actual=edit.rows,
            message=f"{weight.name} {said}",
            recommendation=done,
        )


def _fitting(weight: Weight, other: Weight) -> tuple[TakenApart, int] | None:
    block = blocks.block_format(weight.dtype)
    rows, columns = weight.stored_dims
    if not block.block_size or columns % block.block_size or weight.entry.nbytes % max(1, rows):
        return None
    row_bytes = weight.entry.nbytes // rows
    most = max(TOGETHER)
    if rows < most:
        return None
    raw = weight.container.read(weight.entry.name, 0, most * row_bytes)
    truth = in_memory(other.name, other.values(0, most)) if weight.order is None and not weight.part else None
    for together in TOGETHER:
        for width in WIDTHS:
            size = width // block.block_size * block.type_size
            if width % block.block_size or not size or row_bytes % size or rows % together:
                continue
            edit = TakenApart(together, row_bytes, size)
            if truth is not None and not looks_like(rows_of(weight, edit(raw), most), truth):
                continue
            repaired = replace(weight, bytes_edit=edit)
            if looks_like(repaired, other):
                return edit, width
    return _joined_along_rows(weight, other, row_bytes)


def _joined_along_rows(weight: Weight, other: Weight, row_bytes: int) -> tuple[TakenApart, int] | None:
    """The columns of some ranks one after another, where the first row of the file tells: it has the first columns of
    several rows."""
    block, (rows, columns) = blocks.block_format(weight.dtype), weight.stored_dims
    if weight.order is not None or weight.part is not None or weight.slot is not None:
        return None
    for count in RANKS:
        width = columns // count
        if columns % (count * block.block_size) or rows < count:
            continue
        first, truth = weight.values(0, 1).view(count, width), other.values(0, count)[:, :width]
        if not looks_like(in_memory(weight.name, first), in_memory(weight.name, truth.contiguous())):
            continue
        edit = TakenApart(rows, row_bytes, row_bytes // count)
        if looks_like(replace(weight, bytes_edit=edit), other):
            return edit, width
    return None


def rows_of(weight: Weight, data: NDArray[np.uint8], rows: int) -> Weight:
    """The first rows of a weight, of other bytes."""
    return weight_of(TensorInput(weight.name, weight.dtype, (rows, weight.stored_dims[1]), data))
