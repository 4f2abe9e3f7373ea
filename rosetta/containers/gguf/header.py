"""The header of one GGUF file: its keys, its tensor infos, and where the data begins."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from rosetta.containers.container import TensorEntry
from rosetta.containers.file_bytes import Cursor, FileBytes
from rosetta.containers.gguf.values import LazyMetadata, read_name, read_values
from rosetta.dtypes import BY_CODE, flat_bytes, others_of_bytes, whole_rows
from rosetta.errors import DamagedFileError, UnsupportedError

MAX_DIMS = 4  # ggml.h, GGML_MAX_DIMS
DEFAULT_ALIGNMENT = 32  # bytes; gguf.h, GGUF_DEFAULT_ALIGNMENT
_MAX_TENSORS = 1 << 20
_MAX_WEIGHTS = 1 << 48
_REMEDY = "the file is damaged; copy it again"


@dataclass(frozen=True)
class GgufHeader:
    """What one file declares.

    Args:
        version: 2 or 3.
        order: `<` or `>`.
        metadata: all keys.
        entries: tensors in file order.
        places: for each tensor the byte of the file where its data begins.
        alignment: of each tensor's data, in bytes.
        key_places: for each key the byte of the file where it begins, and the code of its value's type.
        notes: irregularities that were tolerated.
    """

    version: int
    order: str
    metadata: LazyMetadata
    entries: dict[str, TensorEntry]
    places: dict[str, int]
    alignment: int
    key_places: dict[str, tuple[int, int]]
    notes: tuple[str, ...]


def read_header(file: FileBytes, alignment: int | None = None) -> GgufHeader:
    """Read and check the header of a GGUF file.

    Args:
        file: the file.
        alignment: what to take in place of the one that it states.

    Raises:
        UnsupportedError: a version, value type or tensor type that rosetta does not know.
        DamagedFileError: the header contradicts itself or runs out of the file.
    """
    cursor = Cursor(file, 4)
    version, order = _version(cursor)
    tensor_count, key_count = struct.unpack(f"{order}QQ", cursor.take(16))
    # the least bytes of a tensor info are its 24 without name and dims, of a key and its value 14
    if tensor_count > _MAX_TENSORS or tensor_count * 24 + key_count * 14 > cursor.left:
        message = (
            f"the header counts {tensor_count:,} tensors and {key_count:,} keys, {cursor.left:,} bytes follow"
        )
        if max(tensor_count, key_count) <= _MAX_TENSORS:
            message += ": the file is cut off"
        raise DamagedFileError(message, file=file.path, where="byte 8", remedy=_REMEDY)
    key_places: dict[str, tuple[int, int]] = {}
    values = read_values(cursor, order, key_count, key_places)
    metadata = LazyMetadata(file, order, values)
    infos = [_read_info(cursor, order) for _ in range(tensor_count)]
    alignment = alignment or _alignment(file, values)
    data_at = -(-cursor.position // alignment) * alignment
    notes: list[str] = []
    entries, places = _placed(file, infos, data_at, alignment, notes.append)
    return GgufHeader(version, order, metadata, entries, places, alignment, key_places, tuple(notes))


def read_pairs(file: FileBytes, order: str) -> dict[str, bytes]:
    """Each key of a header that `read_header` has found sound, and it with its value as they stand in the file."""
    (count,) = struct.unpack(f"{order}Q", file.bytes(16, 8))
    cursor = Cursor(file, 24)  # behind magic, version and two counts
    pairs: dict[str, bytes] = {}
    for _ in range(count):
        start = cursor.position
        (key,) = read_values(cursor, order, 1)
        pairs[key] = file.bytes(start, cursor.position - start)
    return pairs


def _version(cursor: Cursor) -> tuple[int, str]:
    raw = cursor.take(4)
    little, big = int.from_bytes(raw, "little"), int.from_bytes(raw, "big")
    order = "<" if little & 0xFFFF else ">"
    version = little if order == "<" else big
    if version == 1:
        remedy = "convert the model again with a current llama.cpp"
        raise UnsupportedError(
            "is GGUF version 1, rosetta reads 2 and 3", file=cursor.file.path, remedy=remedy
        )
    if version not in (2, 3):
        message = f"says GGUF version {min(little, big):,}, rosetta reads 2 and 3"
        raise UnsupportedError(message, file=cursor.file.path, where="byte 4", remedy="copy the file again")
    return version, order


@dataclass(frozen=True)
class _Info:
    name: str
    ne: tuple[int, ...]  # innermost first
    code: int
    offset: int  # from the start of the data


def _read_info(cursor: Cursor, order: str) -> _Info:
    name = read_name(cursor, order, "a tensor")
    (ndim,) = struct.unpack(f"{order}I", cursor.take(4))
    if ndim > MAX_DIMS:
        message = f"has {ndim:,} dims, GGUF allows {MAX_DIMS}"
        raise DamagedFileError(message, file=cursor.file.path, where=f"tensor {name!r}", remedy=_REMEDY)
    *ne, code, offset = struct.unpack(f"{order}{ndim}QIQ", cursor.take(8 * ndim + 12))
    return _Info(name, tuple(ne), code, offset)


def _alignment(file: FileBytes, values: dict[str, Any]) -> int:
    alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
    sound = isinstance(alignment, int) and 0 < alignment < 1 << 32 and alignment & (alignment - 1) == 0
    if not sound or isinstance(alignment, bool):
        message = f"is {alignment!r:.40}, and must be a power of two"
        raise DamagedFileError(message, file=file.path, where="key 'general.alignment'", remedy=_REMEDY)
    return int(alignment)


def _placed(
    file: FileBytes, infos: list[_Info], data_at: int, alignment: int, note: Callable[[str], None]
) -> tuple[dict[str, TensorEntry], dict[str, int]]:
    entries: dict[str, TensorEntry] = {}
    places: dict[str, int] = {}
    expected, last = 0, max((info.offset for info in infos), default=0)
    for info in infos:
        entry = _entry(file, info)
        where = f"tensor {info.name!r}"
        if info.name in entries:
            raise DamagedFileError("is there twice", file=file.path, where=where, remedy=_REMEDY)
        if info.offset == last:
            _require_last(file, data_at + info.offset, entry, alignment)
        file.require(data_at + info.offset, entry.nbytes, where)
        if info.offset != expected:
            note(f"{where} begins {info.offset:,} bytes into the data, llama.cpp wants {expected:,}")
        expected = -(-(info.offset + entry.nbytes) // alignment) * alignment
        entries[info.name], places[info.name] = entry, data_at + info.offset
    return entries, places


def _require_last(file: FileBytes, start: int, entry: TensorEntry, alignment: int) -> None:
    """Raise where the last tensor ends beyond the file, and its bytes there are as many as another dtype takes.

    Raises:
        DamagedFileError: the file may be cut off, or the label wrong: no byte tells which.
    """
    room = file.size - start
    others = others_of_bytes(entry.dtype, entry.dims, room, alignment - 1) if room < entry.nbytes else []
    if others:
        raise DamagedFileError(
            f"tensor {entry.name!r} ends at byte {start + entry.nbytes:,} as {entry.dtype}, after the end of the file "
            f"({file.size:,}), where it would end as {' or '.join(others)}",
            file=file.path,
            remedy="the file is truncated, or the tensor's dtype is declared wrongly",
        )


def _entry(file: FileBytes, info: _Info) -> TensorEntry:
    where = f"tensor {info.name!r}"
    known = BY_CODE.get(info.code)
    if known is None:
        message = f"has the type {info.code}, which rosetta does not know"
        raise UnsupportedError(
            message, file=file.path, where=where, remedy="quantise the model to another type"
        )
    dtype, ne = known.name, info.ne
    if len(ne) == MAX_DIMS:  # an old writer pads to four dims
        while len(ne) > 1 and ne[-1] == 1:
            ne = ne[:-1]
    dims = ne[::-1]
    if prod(dims) > _MAX_WEIGHTS:
        raise DamagedFileError(f"has the dims {list(dims)}", file=file.path, where=where, remedy=_REMEDY)
    if not whole_rows(dtype, dims):
        message = f"has dims {list(dims)}, and {dtype} needs rows in blocks of {known.block_size}"
        raise DamagedFileError(message, file=file.path, where=where, remedy=_REMEDY)
    return TensorEntry(info.name, dtype, dims, flat_bytes(dtype, dims))
