"""SentencePiece's precompiled normaliser: a double array of spellings to replace, and their replacements."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from rosetta.errors import DamagedFileError


class Charsmap:
    """SentencePiece's precompiled normaliser: the longest prefix that a double array knows is replaced.

    Args:
        data: length of the array in bytes (uint32), the array (uint32: bits 0-7 label, 8 leaf, 9 whether the
            offset is shifted, 10-30 offset; 31 value), then the replacements, each ended by a zero byte.
        kept: tokens that are left as they are, even where a text holds only their beginning.

    Raises:
        DamagedFileError: the lengths contradict each other.
    """

    def __init__(self, data: bytes, kept: Sequence[str] = ()) -> None:
        length = int.from_bytes(data[:4], "little")
        if data and (len(data) < 4 or length + 4 >= len(data)):
            raise DamagedFileError(
                f"its array ends at byte {length + 4:,} of {len(data):,}", where="precompiled_charsmap"
            )
        self._units = np.frombuffer(data[4 : 4 + length // 4 * 4], "<u4").tolist()
        self._replacements = data[4 + length :]
        self._kept = sorted(token.encode() for token in kept)

    def __call__(self, text: str) -> str:
        """The text, normalised."""
        if not self._units:
            return text
        data = text.encode()
        parts: list[bytes] = []
        at = 0
        while at < len(data):
            size = self._kept_at(data, at)
            if not size:
                size, value = self._longest(data, at)
                if size:
                    parts.append(self._replacement(value))
                    at += size
                    continue
                size = _utf8_length(data[at])
            parts.append(data[at : at + size])
            at += size
        return b"".join(parts).decode("utf-8", "replace")

    def _kept_at(self, data: bytes, at: int) -> int:
        """How many bytes of a kept token stand here, complete or not."""
        if not self._kept:
            return 0
        rest = data[at : at + max(map(len, self._kept))]
        place = bisect_left(self._kept, rest)
        neighbours = self._kept[max(place - 1, 0) : place + 1]
        return max(_common_prefix(rest, token) for token in neighbours)

    def _longest(self, data: bytes, at: int) -> tuple[int, int]:
        """Bytes matched and where their replacement starts; 0 bytes where nothing is known."""
        size = value = 0
        node = _offset(self._unit(0))
        for end in range(at, len(data)):
            byte = data[end]
            node ^= byte
            if not byte or self._unit(node) & 0x800000FF != byte:
                break
            unit = self._unit(node)
            node ^= _offset(unit)
            if unit >> 8 & 1:
                size, value = end - at + 1, self._unit(node) & 0x7FFFFFFF
        return size, value

    def _unit(self, index: int) -> int:
        if index >= len(self._units):
            raise DamagedFileError(
                f"entry {index:,} of an array of {len(self._units):,} is asked for",
                where="precompiled_charsmap",
            )
        unit: int = self._units[index]
        return unit

    def _replacement(self, start: int) -> bytes:
        end = self._replacements.find(b"\0", start)
        if end < 0:
            raise DamagedFileError(
                f"the replacement at byte {start:,} has no end", where="precompiled_charsmap"
            )
        return self._replacements[start:end]


def _common_prefix(first: bytes, second: bytes) -> int:
    """How many bytes two begin with alike."""
    alike = (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(alike, min(len(first), len(second)))


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 1 << 9) >> 6)


def _utf8_length(first: int) -> int:
    return 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
