"""SentencePiece's unigram model: its normaliser, then the best path by the `tokenizers` library."""

from __future__ import annotations

import numpy as np
import tokenizers
from tokenizers import models

from rosetta.tokenizer.charsmap import Charsmap
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
