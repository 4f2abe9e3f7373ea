"""Vocabulary -> what encodes with it: special tokens first, then the text between them, then BOS and EOS."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Protocol

from rosetta.tokenizer.byte_alphabet import spelt
from rosetta.tokenizer.byte_pairs import BytePairs, merge_pairs
from rosetta.tokenizer.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer
from rosetta.tokenizer.scored_pairs import ScoredPairs
from rosetta.tokenizer.special_tokens import SpecialTokens
from rosetta.tokenizer.spelling import byte_of, from_hex, token_bytes
from rosetta.tokenizer.unicode_classes import SPACE, class_of
from rosetta.tokenizer.unigram import Unigram
from rosetta.tokenizer.vocabulary import TokenType, Vocabulary
from rosetta.tokenizer.word_pieces import WordPieces, lowercase


class Encoder(Protocol):
    """Encodes text that holds no special tokens."""

    def ids(self, text: str, first: bool) -> list[int]:
        """The ids of a text; `first`: it stands where a space that is not written would go."""
        ...


class Codec:
    """Text to ids and back, as llama.cpp does it.

    Args:
        vocabulary: the facts; V tokens.
        encoder: for the text between special tokens, or another codec whose it is; by default the one of the
            vocabulary's kind.

    Raises:
        DamagedFileError: the vocabulary contradicts itself.
    """

    def __init__(self, vocabulary: Vocabulary, encoder: Encoder | Codec | None = None) -> None:
        self._facts = vocabulary
        self._special = SpecialTokens(vocabulary)
        self._encoder = encoder
        if vocabulary.kind == "unigram":  # whose encoder alone may find a contradiction
            self._encoder = encoder or encoder_of(vocabulary)

    @cached_property
    def encoder(self) -> Encoder:
        """Made when a text is first encoded: of 150,000 tokens it takes half a second."""
        return (
            self._encoder.encoder
            if isinstance(self._encoder, Codec)
            else self._encoder or encoder_of(self._facts)
        )

    def encode(self, text: str, special: bool) -> list[int]:
        """See `Tokenizer.encode`."""
        ids: list[int] = []
        first = True
        for part in self._special.parts(text, special):
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += self.encoder.ids(part, first)
            first = isinstance(part, int) and self._facts.space_after_special
        return self._framed(ids) if special else ids

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer.decode`."""
        text = b"".join(map(self.bytes_of, ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._facts.add_space_prefix else text

    def bytes_of(self, id: int) -> bytes:
        """The bytes that one id stands for."""
        token = self._facts.tokens[id]
        if id in self._special:
            return token.encode("utf-8", "replace")
        if self._facts.types[id] == TokenType.BYTE and (byte := byte_of(token)) is not None:
            return byte
        return token_bytes(token, self._facts.spelling)

    def _framed(self, ids: list[int]) -> list[int]:
        facts = self._facts
        start = facts.special_ids.get("bos") if facts.add_bos or facts.kind == "wordpiece" else None
        end = facts.special_ids.get("eos") if facts.add_eos else None
        end = facts.special_ids.get("separator") if facts.kind == "wordpiece" else end
        return [*([] if start is None else [start]), *ids, *([] if end is None else [end])]


def encoder_of(vocabulary: Vocabulary) -> Encoder:
    """The encoder of a vocabulary's kind.

    Raises:
        DamagedFileError: the vocabulary contradicts itself.
    """
    if vocabulary.kind == "spm":
        return ScoredPairs(vocabulary)
    if vocabulary.kind == "unigram":
        return Unigram(vocabulary)
    if vocabulary.kind == "wordpiece":
        return WordPieces(vocabulary)
    if vocabulary.kind == "hex":
        return _hex_pairs(vocabulary)
    pre = PRE_TOKENIZERS[vocabulary.pre or "default"]
    pairs = BytePairs(vocabulary.tokens, vocabulary.merges, pre)
    return _WithoutSpaces(pairs, vocabulary.lowercase) if vocabulary.kind == "whitespace" else pairs


def _hex_pairs(vocabulary: Vocabulary) -> BytePairs:
    """Byte pairs over tokens and merges that spell each byte as two hex digits; without a pre-tokenizer the
    text is one word."""
    pre = PRE_TOKENIZERS[vocabulary.pre] if vocabulary.pre else PreTokenizer(())
    tokens = [spelt(data) if (data := from_hex(token)) else token for token in vocabulary.tokens]
    merges = [
        f"{spelt(first)} {spelt(second)}"
        for left, right in merge_pairs(vocabulary.merges)
        if (first := from_hex(left)) and (second := from_hex(right))
    ]
    return BytePairs(tokens, merges, pre, vocabulary.special_ids.get("unknown"))


class _WithoutSpaces:
    """llama.cpp's `whitespace` model: words are what stands between spaces, and the spaces are dropped."""

    def __init__(self, pairs: BytePairs, lower: bool) -> None:
        self._pairs, self._lower = pairs, lower

    def ids(self, text: str, first: bool) -> list[int]:
        kept = "".join(" " if class_of(character) == SPACE else character for character in text)
        kept = "".join(map(lowercase, kept)) if self._lower else kept
        return [piece for word in kept.split(" ") for piece in self._pairs.ids(word, first)]
