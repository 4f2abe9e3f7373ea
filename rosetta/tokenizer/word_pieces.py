"""BERT's WordPiece as llama.cpp does it: words normalised, then the longest token at each place."""

from __future__ import annotations

import unicodedata

from rosetta.tokenizer.unicode_classes import CONTROL, MARK, PUNCTUATION, SPACE, SYMBOL, class_of
from rosetta.tokenizer.vocabulary import Vocabulary, ids_of

_CHINESE = (  # llama-vocab.cpp, is_chinese_char
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPieces:
    """Encodes text that holds no special tokens.

    Args:
        vocabulary: tokens that start a word start with ▁, as GGUF writes them.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ids = ids_of(vocabulary.tokens)
        self._longest = max(map(len, vocabulary.tokens), default=0)
        self._unknown = vocabulary.special_ids.get("unknown")
        self._lowercase, self._strip_accents = vocabulary.lowercase, vocabulary.strip_accents

    def ids(self, text: str, first: bool) -> list[int]:
        """The ids of a text; `first` changes nothing here."""
        return [piece for word in self._words(text) for piece in self._word("▁" + word)]

    def _word(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                piece = self._ids.get(word[start:end])
                if piece is not None:
                    found.append(piece)
                    start = end
                    break
            else:
                return [] if self._unknown is None else [self._unknown]
        return found

    def _words(self, text: str) -> list[str]:
        """Words in order: punctuation, ASCII symbols and Chinese characters stand alone."""
        parts: list[str] = []
        for character in text:
            if self._strip_accents:
                character = unicodedata.normalize("NFD", character)[0]
            kind = class_of(character)
            if kind == SPACE:
                parts.append(" ")
                continue
            if character in "\0\ufffd" or kind == CONTROL or (self._strip_accents and kind == MARK):
                continue
            spelling = lowercase(character) if self._lowercase else character
            alone = kind == PUNCTUATION or (kind == SYMBOL and character < "\x7f") or _is_chinese(character)
            parts.append(f" {spelling} " if alone else spelling)
        return [word for word in "".join(parts).split(" ") if word]


def lowercase(character: str) -> str:
    """The one character that lower case is; itself where lower case is several."""
    lower = character.lower()
    return lower if len(lower) == 1 else character


def _is_chinese(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _CHINESE)
