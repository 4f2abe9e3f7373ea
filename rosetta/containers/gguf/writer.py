"""Writes GGUF v3 files through gguf-py's writer, in either byte order, whole or split."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGMLQuantizationType, GGUFEndian, GGUFValueType
from gguf.gguf_writer import GGUFWriter

from rosetta.containers.byte_order import swap_in_place
from rosetta.containers.container import TensorEntry, TensorInput
from rosetta.containers.dtypes import GGUF_CODES, flat_bytes, whole_rows
from rosetta.containers.spool import Spool, folder_beside
from rosetta.errors import UnsupportedError, UsageError

MAX_NAME = 63  # bytes; ggml.h, GGML_MAX_NAME with its closing zero
MAX_DIMS = 4  # ggml.h, GGML_MAX_DIMS

_NUMPY_TYPES: dict[str, GGUFValueType] = {
    **{f"uint{bits}": GGUFValueType[f"UINT{bits}"] for bits in (8, 16, 32, 64)},
    **{f"int{bits}": GGUFValueType[f"INT{bits}"] for bits in (8, 16, 32, 64)},
    **{f"float{bits}": GGUFValueType[f"FLOAT{bits}"] for bits in (32, 64)},
    "bool": GGUFValueType.BOOL,
}


def write_gguf(
    path: str | Path,
    metadata: Mapping[str, Any],
    tensors: Iterable[TensorInput],
    *,
    big_endian: bool = False,
    split_max_tensors: int = 0,
) -> tuple[Path, ...]:
    """Write a GGUF v3 file; it appears under its name only when it is complete.

    Args:
        path: the file; an existing one is replaced. Shards are named `STEM-00001-of-0000N.gguf` after it.
        metadata: GGUF keys with Python values, typed as llama.cpp expects them: int as u32 (i32 where it is
            negative, 64 bits where it must be), float as f32, lists as arrays of str, bool, i32 or f32, bytes
            as an array of u8. A numpy scalar or array is written in its own type. None means absent.
        tensors: consumed once, so that a generator needs memory for one tensor only.
        big_endian: byte order of the file; tensor data is given in the machine's order either way.
        split_max_tensors: most tensors of a shard; 0 for one file.

    Returns:
        The files written.

    Raises:
        UnsupportedError: a dtype, name, shape or value that GGUF does not hold.
        UsageError: no `general.architecture`, a tensor given twice, bytes that are not the dims'.
    """
    path = Path(path)
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise UsageError("GGUF needs a text there", file=path, where="key 'general.architecture'")
    order = GGUFEndian.BIG if big_endian else GGUFEndian.LITTLE
    with folder_beside(path) as folder, Spool(path, folder, tensors) as spool:
        writer = GGUFWriter(
            folder / path.name, architecture, endianess=order, split_max_tensors=split_max_tensors
        )
        for key, value in metadata.items():
            if value is not None and key != "general.architecture":
                _add(writer, path, key, value)
        _write_tensors(writer, path, spool, big_endian != (sys.byteorder == "big"))
        written = sorted(folder.iterdir())
        for file in written:
            os.replace(file, path.parent / file.name)
    return tuple(path.parent / file.name for file in written)


def _write_tensors(writer: GGUFWriter, path: Path, spool: Spool, swapped: bool) -> None:
    for tensor in spool.tensors:
        _check(path, tensor.entry)
        code = GGMLQuantizationType[tensor.entry.dtype]
        # float32 stands for "the dims are of weights, not of bytes"; the code alone is written
        shape, size = tensor.entry.dims, tensor.entry.nbytes
        writer.add_tensor_info(tensor.entry.name, shape, np.dtype(np.float32), size, raw_dtype=code)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in spool.tensors:
        data = spool.data(tensor)
        if swapped:
            swap_in_place(tensor.entry.dtype, data)
        writer.write_tensor_data(data, tensor_endianess=writer.endianess)
    writer.close()


def _check(path: Path, entry: TensorEntry) -> None:
    """Raise unless GGUF holds the tensor."""
    where = f"tensor {entry.name!r}"
    if len(entry.name.encode()) > MAX_NAME:
        message = f"its name has {len(entry.name.encode())} bytes, GGUF holds {MAX_NAME}"
        raise UnsupportedError(message, file=path, where=where, remedy="rename it")
    if len(entry.dims) > MAX_DIMS:
        message = f"has {len(entry.dims)} dims, GGUF holds {MAX_DIMS}"
        raise UnsupportedError(message, file=path, where=where, remedy="reshape it")
    if entry.dtype not in GGUF_CODES.values():
        raise UnsupportedError(f"GGUF holds no {entry.dtype}", file=path, where=where, remedy="convert it")
    if not whole_rows(entry.dtype, entry.dims):
        message = (
            f"its rows of {entry.dims[-1] if entry.dims else 1} weights are no whole blocks of {entry.dtype}"
        )
        raise UnsupportedError(message, file=path, where=where, remedy="write it as F16, BF16 or F32")
    size = flat_bytes(entry.dtype, entry.dims)
    if entry.nbytes != size:
        message = f"{list(entry.dims)} of {entry.dtype} is {size} bytes, {entry.nbytes} were given"
        raise UsageError(message, file=path, where=where, remedy="give its data whole")


def _add(writer: GGUFWriter, path: Path, key: str, value: Any) -> None:
    if key == "general.alignment":
        writer.add_custom_alignment(int(value))
        return
    try:
        if isinstance(value, np.ndarray):
            writer.add_key_value(key, value.tolist(), GGUFValueType.ARRAY, _NUMPY_TYPES[value.dtype.name])
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if len(value):  # gguf-py writes no empty array, and llama.cpp misses none
                writer.add_key_value(key, value, GGUFValueType.ARRAY, _item_type(value))
        else:
            plain = value.item() if isinstance(value, np.generic) else value
            writer.add_key_value(key, plain, _scalar_type(value))
    except KeyError as error:
        message = f"GGUF holds no value of type {error.args[0]}"
        raise UnsupportedError(message, file=path, where=f"key {key!r}", remedy="leave it out") from error


def _scalar_type(value: Any) -> GGUFValueType:
    if isinstance(value, np.generic):
        return _NUMPY_TYPES[value.dtype.name]
    if isinstance(value, bool):
        return GGUFValueType.BOOL
    if isinstance(value, int):
        return _integer_type(value, value, GGUFValueType.UINT32)
    if isinstance(value, float):
        fits = not math.isfinite(value) or abs(value) <= float(np.finfo(np.float32).max)
        return GGUFValueType.FLOAT32 if fits else GGUFValueType.FLOAT64
    if not isinstance(value, str):
        raise KeyError(type(value).__name__)
    return GGUFValueType.STRING


def _item_type(values: Sequence[Any]) -> GGUFValueType:
    if isinstance(values, bytes):
        return GGUFValueType.UINT8
    kinds = {type(value) for value in values}
    if kinds == {int}:
        return _integer_type(min(values), max(values), GGUFValueType.INT32)
    if kinds <= {int, float}:
        return GGUFValueType.FLOAT32
    if len(kinds) > 1:
        raise KeyError(" and ".join(sorted(kind.__name__ for kind in kinds)))
    return _scalar_type(values[0])


def _integer_type(least: int, most: int, preferred: GGUFValueType) -> GGUFValueType:
    """The type that llama.cpp expects where it holds the values, else the narrowest that does."""
    ranges = {
        GGUFValueType.UINT32: (0, 1 << 32),
        GGUFValueType.INT32: (-(1 << 31), 1 << 31),
        GGUFValueType.UINT64: (0, 1 << 64),
        GGUFValueType.INT64: (-(1 << 63), 1 << 63),
    }
    for kind in (preferred, *ranges):
        low, high = ranges[kind]
        if low <= least and most < high:
            return kind
    raise KeyError(f"int {max(most, -least)}")
