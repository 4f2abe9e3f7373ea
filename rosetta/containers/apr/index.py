"""The tensor index of an `.apr` v2 file: names, dtypes told by size, dims, and where the data lies."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from rosetta.containers.apr.layout import ALIGNMENT, CODES, MAX_DIMS
from rosetta.containers.container import TensorEntry
from rosetta.containers.dtypes import BLOCKS, K_QUANTS, flat_bytes, rowwise_bytes
from rosetta.containers.file_bytes import Cursor, FileBytes
from rosetta.containers.json_text import json_value
from rosetta.containers.values import COUNT
from rosetta.errors import DamagedFileError, UnsupportedError

_MIN_ENTRY = 2 + 1 + 1 + 8 + 8  # bytes of an entry without name and dims
_MAX_JSON_INDEX = 64 << 20  # bytes
_MAX_WEIGHTS = 1 << 48
_REMEDY = "the file is damaged; copy it again"

Note = Callable[[str], None]


@dataclass(frozen=True)
class _Declared:
    """An index entry as it stands; `dtypes` are what its dtype as spelled may mean, the likeliest first."""

    name: str
    spelled: str
    dtypes: tuple[str, ...]
    dims: tuple[int, ...]
    offset: int
    nbytes: int


def read_index(
    file: FileBytes, index_at: int, data_at: int, count: int, note: Note
) -> tuple[dict[str, int], dict[str, TensorEntry]]:
    """Read and check the index; training state (`__training__.…`) is left out.

    Args:
        file: the open file.
        index_at: byte where the index begins.
        data_at: byte where the data begins, and the index must have ended.
        count: number of entries.
        note: told of each irregularity that was tolerated.

    Returns:
        for each tensor its offset from `data_at`, and its entry, in file order.

    Raises:
        DamagedFileError: the index or a tensor lies outside the file, or contradicts itself.
        UnsupportedError: a dtype code that no loader knows, or an index of a JSON dump.
    """
    if index_at < 64 or index_at > data_at:
        message = f"the index begins at byte {index_at:,} and the data at {data_at:,}"
        raise DamagedFileError(message, file=file.path, remedy=_REMEDY)
    file.require(index_at, data_at - index_at, "the index")
    offsets: dict[str, int] = {}
    entries: dict[str, TensorEntry] = {}
    names: list[str] = []
    for declared in _declared(file, index_at, data_at, count):
        names.append(declared.name)
        if declared.name.startswith("__training__"):
            continue
        if declared.name in entries:
            raise DamagedFileError(
                "is in the index twice", file=file.path, where=f"tensor {declared.name!r}", remedy=_REMEDY
            )
        entries[declared.name] = _checked(file, data_at, declared)
        offsets[declared.name] = declared.offset if declared.nbytes else 0  # nothing to point at
    _note_order(names, offsets, entries, note)
    return offsets, entries


def _declared(file: FileBytes, index_at: int, data_at: int, count: int) -> list[_Declared]:
    if file.bytes(index_at, min(2, data_at - index_at)) in (b"[{", b"[]"):  # as a name length, absurd
        return _json_entries(file, index_at, data_at)
    cursor = Cursor(file, index_at, data_at, "the index")
    if count * _MIN_ENTRY > cursor.left:
        message = f"the header counts {count:,} tensors, the index has {cursor.left:,} bytes"
        raise DamagedFileError(message, file=file.path, remedy=_REMEDY)
    return [_binary_entry(cursor) for _ in range(count)]


def _binary_entry(cursor: Cursor) -> _Declared:
    (length,) = struct.unpack("<H", cursor.take(2))
    name = cursor.take(length).decode(errors="replace")
    code, ndim = cursor.take(2)
    *dims, offset, nbytes = struct.unpack(f"<{ndim + 2}Q", cursor.take(8 * ndim + 16))
    return _Declared(name, f"code {code}", CODES.get(code, ()), tuple(dims), offset, nbytes)


def _json_entries(file: FileBytes, index_at: int, data_at: int) -> list[_Declared]:
    """The index as a JSON array of objects, which realizar's first converter wrote."""
    size = data_at - index_at
    if size > _MAX_JSON_INDEX:
        message = f"the JSON index has {size:,} bytes, rosetta reads {_MAX_JSON_INDEX:,}"
        raise UnsupportedError(message, file=file.path, remedy="import the model again")
    items = json_value(file.path, file.bytes(index_at, size).rstrip(b"\0"), "the index")
    return [_json_entry(file.path, item) for item in items]


def _json_entry(path: Path, item: Any) -> _Declared:
    fields = item if isinstance(item, dict) else {}
    name, dtype, dims = fields.get("name"), fields.get("dtype"), fields.get("shape", fields.get("dims"))
    numbers: list[Any] = [
        *(dims if isinstance(dims, list) else [None]),
        fields.get("offset"),
        fields.get("size"),
    ]
    sound = all(COUNT.holds(number) for number in numbers)
    if not (isinstance(name, str) and isinstance(dtype, str) and sound):
        remedy = "import the model again"
        raise DamagedFileError("the JSON index has an entry without its fields", file=path, remedy=remedy)
    if dtype == "json":
        message = "is realizar's JSON dump of a model inside an .apr v2 header, without tensors"
        raise UnsupportedError(message, file=path, remedy="import the model again with a current aprender")
    dtypes = (dtype.upper(),) if dtype.upper() in (*BLOCKS, "APR_Q8") else ()
    return _Declared(name, repr(dtype), dtypes, tuple(numbers[:-2]), numbers[-2], numbers[-1])


def _checked(file: FileBytes, data_at: int, declared: _Declared) -> TensorEntry:
    """The entry with the dtype that its size tells, inside the file."""
    where, dims = f"tensor {declared.name!r}", declared.dims
    if not declared.dtypes:
        message = f"has the dtype {declared.spelled:.40}, which no .apr loader knows"
        remedy = "import the model again, or the file is damaged"
        raise UnsupportedError(message, file=file.path, where=where, remedy=remedy)
    if len(dims) > MAX_DIMS or prod(dims) > _MAX_WEIGHTS:
        message = (
            f"has {len(dims)} dims of {prod(dims):,} weights"
            if len(dims) <= MAX_DIMS
            else f"has {len(dims)} dims"
        )
        raise DamagedFileError(message, file=file.path, where=where, remedy=_REMEDY)
    if declared.nbytes == 0:  # a placeholder (a tied head), or truly empty
        return TensorEntry(declared.name, declared.dtypes[0], dims, 0)
    for dtype in declared.dtypes:
        sizes = {flat_bytes(dtype, dims)}
        if dtype in K_QUANTS and len(dims) == 2:
            sizes.add(rowwise_bytes(dtype, dims))
        if declared.nbytes in sizes:
            file.require(data_at + declared.offset, declared.nbytes, where)
            return TensorEntry(declared.name, dtype, dims, declared.nbytes)
    others = [dtype for dtype, (block, _) in BLOCKS.items() if dims and dims[-1] % block == 0]
    if declared.nbytes in {flat_bytes(dtype, dims) for dtype in others}:
        # The bytes of another dtype: opened, so that a comparison can say of which.
        file.require(data_at + declared.offset, declared.nbytes, where)
        return TensorEntry(declared.name, declared.dtypes[0], dims, declared.nbytes)
    wanted = " or ".join(f"{flat_bytes(dtype, dims):,} bytes ({dtype})" for dtype in declared.dtypes)
    message = f"dims {list(dims)} take {wanted}, the index says {declared.nbytes:,}"
    raise DamagedFileError(message, file=file.path, where=where, remedy=_REMEDY)


def _note_order(
    names: list[str], offsets: dict[str, int], entries: dict[str, TensorEntry], note: Note
) -> None:
    keys = [name.encode(errors="replace") for name in names]
    if keys != sorted(keys):
        note("the index is not sorted by name")
    if any(offset % ALIGNMENT for offset in offsets.values()):
        note(f"tensor data is not aligned to {ALIGNMENT} bytes")
    end, before = 0, ""
    for name in sorted(offsets, key=lambda name: (offsets[name], entries[name].nbytes)):
        if entries[name].nbytes and offsets[name] < end:
            note(f"tensors {before!r} and {name!r} share bytes")
            return
        if entries[name].nbytes:
            end, before = offsets[name] + entries[name].nbytes, name
