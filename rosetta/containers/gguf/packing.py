"""Keys, values and tensor infos as the bytes of a GGUF header; `values.py` and `header.py` read them."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from gguf.constants import GGUFValueType

from rosetta.containers.container import TensorEntry
from rosetta.containers.gguf.values import SCALARS
from rosetta.dtypes import DTYPES

_NUMPY_TYPES: dict[str, GGUFValueType] = {
    **{f"uint{bits}": GGUFValueType[f"UINT{bits}"] for bits in (8, 16, 32, 64)},
    **{f"int{bits}": GGUFValueType[f"INT{bits}"] for bits in (8, 16, 32, 64)},
    **{f"float{bits}": GGUFValueType[f"FLOAT{bits}"] for bits in (32, 64)},
    "bool": GGUFValueType.BOOL,
}


def packed_pair(order: str, key: str, value: Any, kind: int | None = None) -> bytes:
    """A key and its value.

    Args:
        order: `<` or `>`.
        key: in full.
        value: int as u32 (i32 where it is negative, 64 bits where it must be), float as f32 (f64 beyond its
            range), lists as arrays of str, bool, i32 or f32, bytes as an array of u8; a numpy scalar or array in
            its own type.
        kind: the value type that a number is to have where that holds it.

    Raises:
        KeyError: GGUF holds no such value; the argument names its type.
    """
    start = packed_text(order, key)
    if kind in SCALARS and isinstance(value, int | float):
        try:
            plain = float(value) if SCALARS[kind] in "fd" else value
            return start + struct.pack(f"{order}I{SCALARS[kind]}", kind, plain)
        except struct.error:
            pass  # a type too narrow for the value
    if isinstance(value, np.ndarray | Sequence) and not isinstance(value, str):
        return start + struct.pack(f"{order}I", GGUFValueType.ARRAY) + _packed_array(order, value)
    found = _scalar_type(value)
    if found is GGUFValueType.STRING:
        return start + struct.pack(f"{order}I", found) + packed_text(order, value)
    plain = value.item() if isinstance(value, np.generic) else value
    return start + struct.pack(f"{order}I{SCALARS[found]}", found, plain)


def packed_text(order: str, text: str) -> bytes:
    """A text: its length in bytes, and they."""
    data = text.encode()
    return struct.pack(f"{order}Q", len(data)) + data


def packed_info(order: str, entry: TensorEntry, offset: int) -> bytes:
    """A tensor info; `offset` is where its data begins, in bytes from the start of all data."""
    code = DTYPES[entry.dtype].code
    dims = struct.pack(f"{order}I{len(entry.dims)}Q", len(entry.dims), *entry.dims[::-1])
    return packed_text(order, entry.name) + dims + struct.pack(f"{order}IQ", code, offset)


def _packed_array(order: str, items: Any) -> bytes:
    kind = _NUMPY_TYPES[items.dtype.name] if isinstance(items, np.ndarray) else _item_type(items)
    start = struct.pack(f"{order}IQ", kind, len(items))
    if kind is GGUFValueType.STRING:
        return start + b"".join(packed_text(order, text) for text in items)
    plain = items.tolist() if isinstance(items, np.ndarray) else items
    return start + struct.pack(f"{order}{len(items)}{SCALARS[kind]}", *plain)


def _scalar_type(value: Any) -> GGUFValueType:
    if isinstance(value, np.generic):
        return _NUMPY_TYPES[value.dtype.name]
    if isinstance(value, bool):
        return GGUFValueType.BOOL
    if isinstance(value, int):
        return _integer_type(value, value, GGUFValueType.UINT32)
    if isinstance(value, float):
        return _float_type([value])
    if not isinstance(value, str):
        raise KeyError(type(value).__name__)
    return GGUFValueType.STRING


def _item_type(values: Sequence[Any]) -> GGUFValueType:
    if isinstance(values, bytes):
        return GGUFValueType.UINT8
    kinds = {type(value) for value in values}
    if not kinds:
        return GGUFValueType.STRING
    if kinds == {int}:
        return _integer_type(min(values), max(values), GGUFValueType.INT32)
    if kinds <= {int, float}:
        return _float_type(values)
    if len(kinds) > 1:
        raise KeyError(" and ".join(sorted(kind.__name__ for kind in kinds)))
    return _scalar_type(values[0])


def _float_type(values: Sequence[float]) -> GGUFValueType:
    """FLOAT32, which llama.cpp expects, where it has the range."""
    largest = float(np.finfo(np.float32).max)
    fits = all(not math.isfinite(value) or abs(value) <= largest for value in values)
    return GGUFValueType.FLOAT32 if fits else GGUFValueType.FLOAT64


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
