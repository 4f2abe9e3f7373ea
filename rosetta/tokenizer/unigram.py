"""SentencePiece's unigram model: its normaliser, then the best path by the `tokenizers` library."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import tokenizers
from tokenizers import models

from rosetta.errors import DamagedFileError
from rosetta.tokenizer.vocabulary import TokenType, Vocabulary

_NO_TEXT = "\ufdd0"  # a noncharacter: with an id behind it, a piece that no text holds


class Unigram:
    """Encodes text that holds no special tokens.

    Args:
        vocabulary: with scores `[V]`.

    Raises:
        DamagedFileError: there are fewer scores than tokens, or the charsmap contradicts itself.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        size = len(vocabulary.tokens)
        types = vocabulary.types
        usable = np.isin(types, (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED))
        normal = vocabulary.scores[types == TokenType.NORMAL]
        if vocabulary.byte_fallback:
            usable |= types == TokenType.BYTE
        # a piece left out must not lower the unknown token's score, which hangs on the lowest normal one
        highest = float(normal.max()) if normal.size else 0.0
        scores = np.where(usable, vocabulary.scores.astype(np.float64), highest)
        scores[types == TokenType.USER_DEFINED] = 0.0
        pieces = [
            (token if fits else f"{_NO_TEXT}{id_}", score)
            for id_, (token, fits, score) in enumerate(
                zip(vocabulary.tokens, usable.tolist(), scores.tolist(), strict=True)
            )
        ]
        unknown = vocabulary.special_ids.get("unknown", size)
        if unknown == size:
            pieces.append((f"{_NO_TEXT}{size}", highest))
        self._size = size
        self._paths = tokenizers.Tokenizer(
            models.Unigram(pieces, unk_id=unknown, byte_fallback=vocabulary.byte_fallback)
        )
        self._space = "▁"
        self._prefix, self._merge_spaces = vocabulary.add_space_prefix, vocabulary.remove_extra_spaces
        self._every_text_starts = vocabulary.space_after_special
        kept = [vocabulary.tokens[i] for i in np.flatnonzero(types == TokenType.USER_DEFINED).tolist()]
        self._normalizer = Charsmap(vocabulary.charsmap, kept)

    def ids(self, text: str, first: bool) -> list[int]:
        """The ids of a text; `first`: it stands at the start or after a special token."""
        normalized = self._spaced(self._normalizer(text), first or self._every_text_starts)
        if not normalized:
            return []
        found = self._paths.encode([normalized], is_pretokenized=True, add_special_tokens=False).ids
        return [piece for piece in found if piece < self._size]

    def _spaced(self, text: str, first: bool) -> str:
        """Spaces as ▁, with the space that is not written and without those that do not count."""
        if self._merge_spaces:
            return "".join(self._space + word for word in text.split(" ") if word)
        words = text.lstrip(" ")
        if self._prefix and first and words:
            words = " " + words
        return (" " * (len(text) - len(text.lstrip(" "))) + words).replace(" ", self._space)


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
