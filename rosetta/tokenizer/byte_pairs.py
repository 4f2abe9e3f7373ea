"""Byte-pair encoding by rank: words out of `splitting`, merges by the `tokenizers` library.

The library refuses merges whose parts are no tokens and drops characters that are none, where llama.cpp
merges on and spells what is left at the end. Both come out alike by giving such pieces ids beyond the
vocabulary, which are spelt out when the merging is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import tokenizers
from tokenizers import models

from rosetta.tokenizer.byte_alphabet import ALPHABET, spelt
from rosetta.tokenizer.pre_tokenizers import PreTokenizer
from rosetta.tokenizer.splitting import words
from rosetta.tokenizer.vocabulary import ids_of

TEXTS_BY_PARTS = 8  # of so many texts each finds its own merges; then making all of them pays
PARTS_AT_MOST = 1 << 18  # of the words of a text, counted as if each began and ended anywhere
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))


@dataclass(frozen=True)
class _Merger:
    """Byte pairs of the `tokenizers` library, and what they may give beyond the vocabulary.

    Args:
        pairs: the library's model.
        spellings: ids that stand for pieces which are no tokens -> ids of tokens that spell them.
    """

    pairs: tokenizers.Tokenizer
    spellings: dict[int, list[int]]

    def ids(self, words: Sequence[str]) -> list[int]:
        """The ids of words, each merged by itself."""
        found: list[int] = self.pairs.encode(words, is_pretokenized=True, add_special_tokens=False).ids
        return [piece for each in found for piece in self.spellings.get(each, (each,))]


class BytePairs:
    """Encodes text that holds no special tokens.

    Args:
        tokens: `[V]`, in the byte alphabet where the pre-tokenizer says so.
        merges: `left right`, best first, see `merge_pairs`.
        pre: how text is cut into words and spelt.
        unknown: the id of a byte that has no token; None: such bytes are left out, as llama.cpp does.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        merges: Sequence[str],
        pre: PreTokenizer,
        unknown: int | None = None,
    ) -> None:
        self._ids, self._lines = ids_of(tokens), merges
        self._size = len(tokens)
        self._pre, self._unknown = pre, unknown
        self._left = TEXTS_BY_PARTS
        self._met_before = set[str](), self._made((), {})
        self._whole: dict[str, int] = {}
        if pre.ignore_merges:
            self._whole = self._ids
        elif pre.whole_newlines:
            self._whole = {text: piece for text, piece in self._ids.items() if text and not text.strip("\n")}

    def ids(self, text: str, first: bool) -> list[int]:
        """The ids of a text; `first` (it follows the start or a special token) changes nothing here."""
        if self._pre.escape_spaces:
            text = text.replace(" ", "▁")
        cut: Iterable[str] = words(text, self._pre.cuts)
        if self._pre.byte_level:
            cut = (spelt(word.encode()) for word in cut)
        found: list[int] = []
        todo = list(cut)
        waiting: list[str] = []
        merger = self._merger_of({word for word in todo if word not in self._whole})
        for word in todo:
            whole = self._whole.get(word)
            if whole is None:
                waiting.append(word)
                continue
            found += merger.ids(waiting)
            found.append(whole)
            waiting = []
        return found + merger.ids(waiting)

    def _merger_of(self, words: set[str]) -> _Merger:
        """What merges these words: of the first texts made of what they can meet, since of 150,000 merges a prompt
        meets some hundreds, and all of them take a second and 100 MB."""
        if words <= self._met_before[0]:
            return self._met_before[1]
        if not self._left or sum(len(word) ** 2 for word in words) > PARTS_AT_MOST:
            return self._complete
        self._left -= 1
        parts = {word[a:b] for word in words for a in range(len(word)) for b in range(a + 1, len(word) + 1)}
        met = [line for line in self._lines if line.replace(" ", "", 1) in parts]
        ids = {part: self._ids[part] for part in parts | self._single if part in self._ids}
        self._met_before = words, self._made(met, ids)
        return self._met_before[1]

    @cached_property
    def _complete(self) -> _Merger:
        return self._made(self._lines, self._ids)

    @property
    def _single(self) -> frozenset[str]:
        return ALPHABET if self._pre.byte_level else frozenset(BYTE_TOKENS)

    def _made(self, lines: Sequence[str], ids: dict[str, int]) -> _Merger:
        merges = merge_pairs(lines)
        beyond = dict(enumerate(sorted(_pieces(merges, self._single) - ids.keys()), self._size))
        model = models.BPE(
            ids | {text: piece for piece, text in beyond.items()},
            merges,
            byte_fallback=not self._pre.byte_level,
        )
        spell = _spell_alphabet if self._pre.byte_level else _spell_utf8
        spellings = {piece: spell(text, self._ids, self._unknown) for piece, text in beyond.items()}
        return _Merger(tokenizers.Tokenizer(model), spellings)


def merge_pairs(merges: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of `left right` lines, cut at the first space after the first character.

    Of a pair that stands twice the first counts; lines that are no pair match nothing and are left out.
    """
    pairs = dict.fromkeys(
        (line[:space], line[space + 1 :]) for line in merges if (space := line.find(" ", 1)) > 0
    )
    return [pair for pair in pairs if pair[1] and " " not in pair[1] and " " not in pair[0]]


def _pieces(merges: Sequence[tuple[str, str]], single: frozenset[str]) -> set[str]:
    """Every piece that merging can meet or make."""
    pieces = {left + right for left, right in merges}
    pieces.update(left for left, _ in merges)
    pieces.update(right for _, right in merges)
    return pieces | single


def _spell_alphabet(piece: str, ids: dict[str, int], unknown: int | None) -> list[int]:
    """llama.cpp looks for each UTF-8 byte of a piece that is no token: only ASCII characters can be found."""
    if unknown is not None:
        return [ids.get(character, unknown) for character in piece]
    return [ids[character] for character in piece if character.isascii() and character in ids]


def _spell_utf8(piece: str, ids: dict[str, int], unknown: int | None) -> list[int]:
    if piece in BYTE_TOKENS:
        return []
    return [ids[token] for byte in piece.encode() if (token := BYTE_TOKENS[byte]) in ids]
