"""Arrays of texts in a GGUF header, each a length of eight bytes and its bytes: stepped over and decoded many at once.

Lengths are a chain: each says where the next one stands. Texts of 1 to 255 bytes without a zero byte, which those of
vocabularies nearly always are, show their lengths by the seven zeros behind them; that the lengths found so are the
chain is checked, and what does not show so is walked through one by one.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.file_bytes import Cursor

_LENGTH = 8  # bytes; gguf.h, strings begin with a uint64


def skip_strings(cursor: Cursor, order: str, count: int) -> None:
    """Step over `count` texts.

    Raises:
        DamagedFileError: the part ends inside of one.
    """
    unpack = struct.Struct(f"{order}Q").unpack_from
    while count:
        window, at = cursor.window()
        start, last = at, len(window) - _LENGTH
        chain = _chain(np.frombuffer(window, np.uint8, offset=at)) if order == "<" else np.empty(0, np.int64)
        known = min(len(chain) - 1, count)
        if known > 0:
            at, count = at + int(chain[known]), count - known
        while count and at <= last:
            at += _LENGTH + unpack(window, at)[0]
            count -= 1
        cursor.skip(at - start)
        if count and at == start:
            cursor.take(_LENGTH)  # the part ends inside a length: says so


def strings(data: bytes, order: str, count: int) -> list[str]:
    """The texts of an array; bytes that are no UTF-8 become �.

    Args:
        data: the whole array.
        order: `<` or `>`.
        count: of texts.

    Raises:
        struct.error: the array ends before the last of them.
    """
    found = _at_once(np.frombuffer(data, np.uint8), count) if order == "<" else None
    return _one_by_one(data, order, count) if found is None else found


def _chain(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where the first texts of little-endian data begin that show their lengths, int64 [n]: each of them stands where
    the one before it ends, or at byte 0."""
    zero = data == 0  # the last byte before each run of zeros, and the last one of each run
    before: NDArray[np.int64] = np.flatnonzero(zero[1:] & ~zero[:-1])
    last = np.flatnonzero(zero[:-1] & ~zero[1:])
    if not len(before) or before[0] or len(before) - len(last) not in (0, 1):
        return before[:0]
    starts: NDArray[np.int64] = before[: len(last)][last - before[: len(last)] == _LENGTH - 1]
    if not len(starts) or starts[0]:
        return starts[:0]
    broken = np.flatnonzero(starts[:-1] + _LENGTH + data[starts[:-1]] != starts[1:])
    return starts[: broken[0] + 1] if len(broken) else starts


def _at_once(data: NDArray[np.uint8], count: int) -> list[str] | None:
    """All texts, or None where one of them does not show its length, holds a zero byte or is no UTF-8."""
    starts, zeros = _chain(data), data == 0
    if not count or len(starts) != count or starts[-1] + _LENGTH + data[starts[-1]] != len(data):
        return None
    if np.count_nonzero(zeros) != (_LENGTH - 1) * count:
        return None
    parted = data.copy()
    parted[starts] = 0  # the lengths' other bytes are left out, so that one zero stands before each text
    try:
        text: str = parted[~zeros].tobytes().decode()
    except UnicodeDecodeError:
        return None
    return text.split("\0")[1:]


def _one_by_one(data: bytes, order: str, count: int) -> list[str]:
    unpack = struct.Struct(f"{order}Q").unpack_from
    at, items = 0, []
    for _ in range(count):
        start = at + _LENGTH
        at = start + unpack(data, at)[0]
        items.append(data[start:at].decode(errors="replace"))
    return items
