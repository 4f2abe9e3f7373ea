"""Keys and values of a GGUF file: short ones read at once, long ones stepped over and decoded when asked for.

Written for speed on vocabularies of 150,000 tokens, and for files that lie about their counts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rosetta.containers.file_bytes import Cursor, FileBytes
from rosetta.containers.gguf.strings import skip_strings, strings
from rosetta.errors import DamagedFileError

SCALARS: dict[int, str] = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""struct codes of the scalar value types; gguf.h, enum gguf_type."""
_UINT8, BOOL, STRING, ARRAY = 0, 7, 8, 9
_MAX_KEY = 65535  # bytes; the GGUF specification's limit of a key
_MAX_STRINGS = 1 << 23  # in one array: fifty times the largest vocabulary
_EAGER = 1 << 16  # bytes of a text that is decoded at once
_REMEDY = "the file is damaged; copy it again"


@dataclass(frozen=True)
class LazyValue:
    """A long value that is still in the file.

    Args:
        kind: value type of the item.
        count: items of the array; None for a string.
        start: byte of the file where the items begin.
        nbytes: bytes of all items.
    """

    kind: int
    count: int | None
    start: int
    nbytes: int


class LazyMetadata(Mapping[str, Any]):
    """Keys and values of one file; a long value is decoded when it is first asked for."""

    def __init__(self, file: FileBytes, order: str, values: dict[str, Any]) -> None:
        self._file, self._order, self._values = file, order, values

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        if isinstance(value, LazyValue):
            value = self._values[key] = self._decoded(value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def count(self, key: str) -> int | None:
        """Items of an array, without decoding it; None where there is no array of that name."""
        value = self._values.get(key)
        if isinstance(value, LazyValue):
            return value.count
        return len(value) if isinstance(value, list | bytes) else None

    def _decoded(self, value: LazyValue) -> Any:
        data = self._file.bytes(value.start, value.nbytes)
        if value.count is None:
            return data.decode(errors="replace")
        try:
            decode = strings if value.kind == STRING else partial(_numbers, kind=value.kind)
            return decode(data, self._order, value.count)
        except (struct.error, OverflowError) as error:
            remedy = "do not change it while it is read"
            raise DamagedFileError(
                "has changed since it was opened", file=self._file.path, remedy=remedy
            ) from error


def read_values(
    cursor: Cursor, order: str, count: int, places: dict[str, tuple[int, int]] | None = None
) -> dict[str, Any]:
    """The next `count` keys and values; what is long is stepped over and stands as a LazyValue.

    Args:
        places: is given for each key the byte where it begins, and the code of its value's type.

    Raises:
        DamagedFileError: a key twice or nameless, a type that GGUF does not define, or the end of the file.
    """
    values: dict[str, Any] = {}
    for _ in range(count):
        at = cursor.position
        key = read_name(cursor, order, "a key")
        if not key or key in values:
            problem = f"has the key {key!r} twice" if key else "has a key without a name"
            raise DamagedFileError(problem, file=cursor.file.path, where=f"byte {at:,}", remedy=_REMEDY)
        (kind,) = struct.unpack(f"{order}I", cursor.take(4))
        values[key] = _value(cursor, order, key, kind)
        if places is not None:
            places[key] = at, kind
    return values


def read_name(cursor: Cursor, order: str, what: str) -> str:
    """The next name of a key or tensor.

    Raises:
        DamagedFileError: it has an absurd length, or the file ends.
    """
    (length,) = struct.unpack(f"{order}Q", cursor.take(8))
    if length > _MAX_KEY:
        message = f"the name of {what} is said to have {length:,} bytes"
        raise DamagedFileError(
            message, file=cursor.file.path, where=f"byte {cursor.position - 8:,}", remedy=_REMEDY
        )
    return cursor.take(length).decode(errors="replace")


def _value(cursor: Cursor, order: str, key: str, kind: int) -> Any:
    if kind in SCALARS:
        size = struct.calcsize(f"{order}{SCALARS[kind]}")
        return struct.unpack(f"{order}{SCALARS[kind]}", cursor.take(size))[0]
    if kind == STRING:
        (length,) = struct.unpack(f"{order}Q", cursor.take(8))
        if length <= _EAGER:
            return cursor.take(length).decode(errors="replace")
        start = cursor.position
        cursor.skip(length)
        return LazyValue(kind, None, start, length)
    if kind == ARRAY:
        item, count = struct.unpack(f"{order}IQ", cursor.take(12))
        return _array(cursor, order, key, item, count)
    raise _unknown_kind(cursor, key, kind)


def _array(cursor: Cursor, order: str, key: str, kind: int, count: int) -> Any:
    start = cursor.position
    if kind in SCALARS:
        cursor.skip(count * struct.calcsize(f"{order}{SCALARS[kind]}"))
    elif kind == STRING:
        if count > _MAX_STRINGS or count * 8 > cursor.left:
            message = f"counts {count:,} texts, {cursor.left:,} bytes follow"
            raise DamagedFileError(message, file=cursor.file.path, where=f"key {key!r}", remedy=_REMEDY)
        skip_strings(cursor, order, count)
    else:
        raise _unknown_kind(cursor, key, kind)
    return LazyValue(kind, count, start, cursor.position - start)


def _numbers(data: bytes, order: str, count: int, kind: int) -> list[Any] | bytes:
    """A list; bytes for an array of u8, which is a blob (a SentencePiece normaliser)."""
    if kind == _UINT8:
        return data
    return list(struct.unpack(f"{order}{count}{SCALARS[kind]}", data))


def _unknown_kind(cursor: Cursor, key: str, kind: int) -> DamagedFileError:
    message = f"has the value type {kind}, which GGUF does not define"
    return DamagedFileError(message, file=cursor.file.path, where=f"key {key!r}", remedy=_REMEDY)
