"""Blocks whose scales stand before all their codes, those of several rows woven together, as llama.cpp's processors
multiply them (`layout.interleaved`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rosetta import blocks
from rosetta.diagnose.hypotheses.interleaved import rows_of
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, looks_like
from rosetta.diagnose.patches import for_all_names, in_memory, reading
from rosetta.weight import Weight

# ggml-cpu/repack.cpp, make_block_q4_0x4 and its like: bytes of a block's scale, and what its codes are combined with,
# so that they are signed.
WOVEN = {"Q4_0": (2, 0x88), "IQ4_NL": (2, 0), "Q8_0": (2, 0), "MXFP4": (1, 0)}
ROWS, BYTES = (4, 8, 16), (4, 8, 1)  # rows together, and bytes of a row that follow each other


@dataclass(frozen=True)
class Unwoven:
    """Bytes of woven blocks, put into the blocks of rows.

    Args:
        dtype: of the blocks.
        row_bytes: of a row.
        rows: that are woven together.
        width: bytes of a row's codes that follow each other.
    """

    dtype: str
    row_bytes: int
    rows: int
    width: int

    def __call__(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        (scale, mask), size = WOVEN[self.dtype], blocks.block_format(self.dtype).type_size
        group = self.rows * self.row_bytes
        whole = len(data) // group * group
        woven = data[:whole].reshape(-1, self.rows * size)  # [groups of blocks, bytes of one]
        scales = woven[:, : self.rows * scale].reshape(-1, self.rows, scale)
        codes = woven[:, self.rows * scale :].reshape(len(woven), -1, self.rows, self.width).swapaxes(1, 2)
        plain = np.concatenate([scales, codes.reshape(len(woven), self.rows, -1) ^ np.uint8(mask)], axis=2)
        by_row = plain.reshape(-1, self.row_bytes // size, self.rows, size).swapaxes(1, 2)
        return np.concatenate([by_row.reshape(-1), data[whole:]])


def propose(fault: Fault) -> Iterator[Proposal]:
    """The way of weaving at which each accused matrix resembles the other side's."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims or weight.dtype not in WOVEN:
            continue
        if len(weight.dims) != 2 or weight.transposed or weight.bytes_edit is not None:
            continue
        edit = None if looks_like(weight, other) else _fitting(weight, other)
        if edit is None:
            continue
        form = f"{weight.dtype}_{edit.rows}_{edit.width}"
        yield Proposal(
            kind="layout.interleaved",
            role=suspect.role,
            repair=Repair(patches=for_all_names(suspect.model, weight, reading(bytes_edit=edit))),
            tensor=weight.name,
            declared=weight.dtype,
            actual=form,
            message=f"{weight.name} is declared {weight.dtype} and holds {form}: {edit.rows} rows woven together by "
            f"{edit.width} bytes, as a processor's vectors have them",
            recommendation=f"write {weight.entry.name} as plain {weight.dtype}: llama.cpp repacks it when it loads it",
        )


def _fitting(weight: Weight, other: Weight) -> Unwoven | None:
    rows, columns = weight.stored_dims
    size, most = blocks.block_format(weight.dtype), max(ROWS)
    if columns % size.block_size or weight.nbytes % max(1, rows):
        return None
    row_bytes, in_order = weight.nbytes // rows, weight.order is None and weight.part is None
    base = 0 if weight.slot is None else weight.slot[0] * weight.nbytes
    raw = weight.container.read(weight.entry.name, base, min(most, rows) * row_bytes)
    truth = in_memory(other.name, other.values(0, most)) if in_order and rows >= most else None
    for together in ROWS:
        for width in BYTES:
            if rows % together:
                continue
            edit = Unwoven(weight.dtype, row_bytes, together, width)
            if truth is not None and not looks_like(rows_of(weight, edit(raw), most), truth):
                continue  # a few rows, before all of them
            if looks_like(replace(weight, bytes_edit=edit), other):
                return edit
    return None
