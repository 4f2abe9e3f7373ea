"""Byte-pair encoding by rank: words out of `splitting`, merges by the `tokenizers` library.

The library refuses merges whose parts are no tokens and drops characters that are none, where llama.cpp
merges on and spells what is left at the end. Both come out alike by giving such pieces ids beyond the
vocabulary, which are spelt out when the merging is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import models

from rosetta.tokenizer.byte_alphabet import ALPHABET, spelt
from rosetta.tokenizer.pre_tokenizers import PreTokenizer
from rosetta.tokenizer.splitting import words
from rosetta.tokenizer.vocabulary import ids_of

BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))


class BytePairs:
    """Encodes text that holds no special tokens.

    Args:
        tokens: `[V]`, in the byte alphabet where the pre-tokenizer says so.
        merges: pairs, best first, see `merge_pairs`.
        pre: how text is cut into words and spelt.
        unknown: the id of a byte that has no token; None: such bytes are left out, as llama.cpp does.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        merges: Sequence[tuple[str, str]],
        pre: PreTokenizer,
        unknown: int | None = None,
    ) -> None:
        ids = ids_of(tokens)
        single = ALPHABET if pre.byte_level else frozenset(BYTE_TOKENS)
        beyond = _pieces(merges, single) - ids.keys()
        self._size = len(tokens)
        self._beyond = dict(enumerate(sorted(beyond), self._size))
        spell = _spell_alphabet if pre.byte_level else _spell_utf8
        self._spellings = {piece: spell(text, ids, unknown) for piece, text in self._beyond.items()}
        model = models.BPE(
            ids | {text: piece for piece, text in self._beyond.items()},
            list(merges),
            byte_fallback=not pre.byte_level,
        )
        self._merges = tokenizers.Tokenizer(model)
        self._pre = pre
        self._whole: dict[str, int] = {}
        if pre.ignore_merges:
            self._whole = ids
        elif pre.whole_newlines:
            self._whole = {text: piece for text, piece in ids.items() if text and not text.strip("\n")}

    def ids(self, text: str, first: bool) -> list[int]:
        """The ids of a text; `first` (it follows the start or a special token) changes nothing here."""
        if self._pre.escape_spaces:
            text = text.replace(" ", "▁")
        cut: Iterable[str] = words(text, self._pre.cuts)
        if self._pre.byte_level:
            cut = (spelt(word.encode()) for word in cut)
        found: list[int] = []
        waiting: list[str] = []
        for word in cut:
            whole = self._whole.get(word)
            if whole is None:
                waiting.append(word)
                continue
            found += self._merged(waiting)
            found.append(whole)
            waiting = []
        return found + self._merged(waiting)

    def _merged(self, waiting: list[str]) -> list[int]:
        if not waiting:
            return []
        found = self._merges.encode(waiting, is_pretokenized=True, add_special_tokens=False).ids
        if not self._spellings or max(found, default=0) < self._size:
            return found
        return [piece for each in found for piece in self._spellings.get(each, (each,))]


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
