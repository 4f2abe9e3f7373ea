"""SentencePiece BPE: of all neighbours that together are a token, the best score is merged first.

The `tokenizers` library merges by rank of pairs; a rank for each pair cannot express scores that tie, so the
merging is written out here, as llama.cpp does it.
"""

from __future__ import annotations

import functools
import heapq
import re
from collections.abc import Iterable

import numpy as np

from rosetta.tokenizer.byte_pairs import BYTE_TOKENS
from rosetta.tokenizer.vocabulary import Vocabulary, ids_of

_CACHED_WORDS = 1 << 14


class ScoredPairs:
    """Encodes text that holds no special tokens.

    Args:
        vocabulary: with scores `[V]`; a token without one has 0.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._prefix = "▁" if vocabulary.add_space_prefix else ""
        self._ids = ids_of(vocabulary.tokens)
        scores = np.zeros(len(vocabulary.tokens), np.float32)
        scores[: len(vocabulary.scores)] = vocabulary.scores[: len(scores)]
        self._costs = (-np.nan_to_num(scores)).tolist()
        self._unknown = vocabulary.special_ids.get("unknown")
        spans_words = any("▁" in token.lstrip("▁") for token in vocabulary.tokens)
        self._words = re.compile(".+" if spans_words else "▁*[^▁]*", re.DOTALL)
        self._cached = functools.lru_cache(_CACHED_WORDS)(self._word)

    def ids(self, text: str, first: bool) -> list[int]:
        """The ids of a text.

        Args:
            text: without special tokens.
            first: it stands at the start or after a special token, and gets the space prefix.
        """
        text = text.replace(" ", "▁")
        text = self._prefix + text if first else text
        # no token holds a ▁ after another character, so none is merged across, and words can be done alone
        return [piece for word in self._words.findall(text) for piece in self._cached(word)]

    def _word(self, word: str) -> tuple[int, ...]:
        if (whole := self._ids.get(word)) is not None and len(word) == 1:
            return (whole,)
        return tuple(piece for text in _merged(word, self._ids, self._costs) for piece in self._spelt(text))

    def _spelt(self, text: str) -> Iterable[int]:
        """A token, or the bytes of a character that is none."""
        whole = self._ids.get(text)
        if whole is not None:
            return (whole,)
        raw = (self._ids.get(BYTE_TOKENS[byte], self._ids.get(chr(byte))) for byte in text.encode())
        found = (self._unknown if byte is None else byte for byte in raw)
        return [byte for byte in found if byte is not None]


def _merged(word: str, ids: dict[str, int], costs: list[float]) -> list[str]:
    """The pieces that are left when no two neighbours together are a token; of equal scores the leftmost goes
    first."""
    pieces = list(word)
    before = list(range(-1, len(pieces) - 1))
    after = [*range(1, len(pieces)), -1]
    queue: list[tuple[float, int, int, int]] = []  # cost, left, right, length of both

    def propose(left: int, right: int) -> None:
        if left >= 0 and right >= 0:
            both = pieces[left] + pieces[right]
            if both in ids:
                heapq.heappush(queue, (costs[ids[both]], left, right, len(both)))

    for left in range(len(pieces) - 1):
        propose(left, left + 1)
    while queue:
        _, left, right, length = heapq.heappop(queue)
        if not pieces[left] or not pieces[right] or len(pieces[left]) + len(pieces[right]) != length:
            continue  # one of them has been merged with another since
        pieces[left] += pieces[right]
        pieces[right] = ""
        after[left] = after[right]
        if after[right] >= 0:
            before[after[right]] = left
        propose(before[left], left)
        propose(left, after[left])
    return [piece for piece in pieces if piece]
