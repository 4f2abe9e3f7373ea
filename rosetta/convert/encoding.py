"""The bytes of a placed tensor: the stored ones wherever they can stay, else values encoded as asked.

Letters: R = rows, C = columns of a canonical weight, row-major.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import cast

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta import blocks
from rosetta.blocks import ggml
from rosetta.containers.container import TensorEntry
from rosetta.containers.spool import Chunk, TensorSource, copied
from rosetta.convert.placing import Piece, Placed, same_place
from rosetta.dtypes import DTYPES, FLOATS, flat_bytes
from rosetta.edits import Reversible
from rosetta.errors import UnsupportedError
from rosetta.weight import Weight

WEIGHTS_AT_ONCE = 1 << 22  # decoded beside each other: 16 MiB of float32


def tensor_source(placed: Placed, dtype: str) -> TensorSource:
    """A tensor to be written.

    Args:
        placed: where its weights are and go.
        dtype: what it will be declared as.
    """
    entry = TensorEntry(placed.name, dtype, placed.dims, flat_bytes(dtype, placed.dims))
    if is_copied(placed, dtype):
        first = placed.pieces[0].source
        return TensorSource(entry, copied(first.container, first.entry.name).chunks)
    return TensorSource(entry, lambda: _chunks(placed, entry))


def is_copied(placed: Placed, dtype: str) -> bool:
    """Whether a tensor of a dtype has the bytes of a stored one, in their order."""
    first = placed.pieces[0].source
    whole = len(placed.pieces) == 1 and same_place(placed.pieces[0])
    return whole and first.dtype == dtype and first.entry.nbytes == flat_bytes(dtype, placed.dims)


def keeps_bytes(placed: Placed) -> bool:
    """Whether the stored bytes of all weights of a tensor can be laid out anew without being decoded."""
    dtypes = {piece.source.dtype for piece in placed.pieces}
    return len(dtypes) == 1 and all(_keeps(piece) for piece in placed.pieces)


def held_exactly(placed: Placed, dtype: str) -> bool:
    """Whether a reader finds every value of a tensor as it is now when it is written in a narrower float.

    Args:
        placed: the tensor; all of it is read.
        dtype: one of torch's floats.
    """
    for piece in placed.pieces:
        edits = piece.target.values_edits
        for start, stop in ranges(piece.source):
            values = piece.source.values(start, stop)
            read = _stored_values(piece, values, start).to(blocks.TORCH_FLOATS[dtype]).float()
            for edit in edits:
                read = edit.values(read, start)
            if not torch.equal(read, values):
                return False
    return True


def encodable(dtype: str) -> bool:
    """Whether values can be encoded as a dtype: by torch, by gguf-py, or by ggml where it is installed."""
    return dtype in blocks.TORCH_FLOATS or _by_gguf_py(dtype) or _by_ggml(dtype)


@cache
def _by_gguf_py(dtype: str) -> bool:
    kind = gguf.GGMLQuantizationType.__members__.get(dtype)
    try:
        return (
            kind is not None
            and gguf.quantize(np.zeros((1, DTYPES[dtype].block_size), np.float32), kind) is not None
        )
    except NotImplementedError:
        return False


def _by_ggml(dtype: str) -> bool:
    return blocks.decodes(dtype) and ggml.has_encoder(blocks.block_format(dtype))


def _keeps(piece: Piece) -> bool:
    source, target = piece.source, piece.target
    if source.values_edits != target.values_edits:
        return False
    if source.dtype in FLOATS:
        return True
    stays = target.columns is None and not target.transposed
    return stays and replace(source, values_edits=()).raw(0, min(1, source.dims[0])) is not None


def _chunks(placed: Placed, entry: TensorEntry) -> Iterator[Chunk]:
    """The tensor's bytes, one stacked matrix after another."""
    pieces = list(placed.pieces)
    while pieces:
        slot = pieces[0].target.slot
        matrix = [piece for piece in pieces if piece.target.slot == slot]
        pieces = [piece for piece in pieces if piece.target.slot != slot]
        if len(matrix) == 1 and _is_straight(matrix[0].target):
            for start, stop in ranges(matrix[0].source):
                yield _encoded_rows(matrix[0], entry.dtype, start, stop).reshape(-1).data
            continue
        shape = _matrix_dims(entry, 1 if slot is None else slot[1])
        if entry.dtype in FLOATS or not any(_moves_columns(piece.target) for piece in matrix):
            yield _laid_out(matrix, entry.dtype, shape).data
        else:  # blocks lie along the stored rows, which are known only when all is in place
            values = torch.from_numpy(_laid_out(matrix, "F32", shape).view(np.float32))
            yield encoded(values.reshape(shape), entry.dtype, matrix[0].source).reshape(-1).data


def _matrix_dims(entry: TensorEntry, matrices: int) -> tuple[int, int]:
    """Rows and columns of each of so many matrices of a tensor."""
    columns = entry.dims[-1] if entry.dims else 1
    return math.prod(entry.dims) // columns // matrices, columns


def _laid_out(matrix: list[Piece], dtype: str, dims: tuple[int, int]) -> NDArray[np.uint8]:
    """All bytes of a matrix of a dtype, each piece where a reader will find it."""
    stored = np.zeros(flat_bytes(dtype, dims), np.uint8)
    for piece in matrix:
        for start, stop in ranges(piece.source):
            rows = _encoded_rows(piece, dtype, start, stop)
            replace(piece.target, dtype=dtype).place(stored, rows, start)
    return stored


def _moves_columns(target: Weight) -> bool:
    """Whether what is beside each other in a canonical row is not so in a stored one."""
    return target.columns is not None or target.transposed


def _is_straight(target: Weight) -> bool:
    """Whether canonical rows are the stored ones, in their order."""
    return target.part is None and target.order is None and target.columns is None and not target.transposed


def ranges(weight: Weight) -> list[tuple[int, int]]:
    """(first row, the one after the last) of each part of a weight that is decoded at once."""
    total = weight.dims[0] if weight.dims else 1
    step = max(1, WEIGHTS_AT_ONCE // max(1, weight.count // max(1, total)))
    if weight.transposed or (
        weight.dtype not in FLOATS and replace(weight, values_edits=()).raw(0, 1) is None
    ):
        step = max(1, total)  # each range would read and decode the whole
    return [(start, min(start + step, total)) for start in range(0, total, step)]


def _encoded_rows(piece: Piece, dtype: str, start: int, stop: int) -> NDArray[np.uint8]:
    """Canonical rows start … stop as they are to be stored, uint8 [rows, bytes a row]."""
    source, target = piece.source, piece.target
    if source.values_edits == target.values_edits:
        source = replace(source, values_edits=())
        if source.dtype == dtype:
            raw = source.raw(start, stop)
            if raw is not None:
                return raw
        return encoded(source.values(start, stop), dtype, source)
    values = source.values(start, stop)
    return encoded(_stored_values(piece, values, start), dtype, source)


def _stored_values(piece: Piece, values: Tensor, start: int) -> Tensor:
    """What is to be stored of canonical rows from `start` on, before it is encoded."""
    for edit in piece.target.values_edits:
        values = cast(Reversible, edit).stored(values, start)  # a reading's own
    return values


def encoded(values: Tensor, dtype: str, of: Weight) -> NDArray[np.uint8]:
    """Values [R, C] of a weight as bytes [R, bytes a row] of a dtype.

    Raises:
        UnsupportedError: nothing encodes that dtype, or not such values.
    """
    rows = values.shape[0] if values.dim() else 1
    if dtype in blocks.TORCH_FLOATS:
        stored = values.to(blocks.TORCH_FLOATS[dtype]).contiguous()
        data: NDArray[np.uint8] = stored.reshape(rows, -1).view(torch.uint8).numpy()
        return data
    if _by_gguf_py(dtype):
        packed = gguf.quantize(values.contiguous().numpy(), gguf.GGMLQuantizationType[dtype])
        return np.ascontiguousarray(packed).view(np.uint8).reshape(rows, -1)
    if not _by_ggml(dtype):
        raise UnsupportedError(f"nothing here encodes {dtype}", remedy="ask for F32, F16, BF16 or Q8_0")
    if not bool(values.isfinite().all()):
        raise UnsupportedError(
            f"has NaN or Inf, which {dtype} cannot hold",
            file=of.container.path,
            where=f"tensor {of.entry.name!r}",
            remedy="repair the model first, or ask for F32 or BF16",
        )
    data = ggml.encode(blocks.block_format(dtype), values).numpy()
    return data
