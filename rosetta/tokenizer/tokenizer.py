"""Container -> Tokenizer: text to token ids and back, as the container's own runtime does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from rosetta.containers.container import Container
from rosetta.errors import DamagedFileError, UsageError
from rosetta.tokenizer.byte_alphabet import spelt, unspelt
from rosetta.tokenizer.byte_pairs import BytePairs, merge_pairs
from rosetta.tokenizer.embedded import apr_vocabulary, gguf_vocabulary
from rosetta.tokenizer.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer
from rosetta.tokenizer.scored_pairs import ScoredPairs
from rosetta.tokenizer.special_tokens import SpecialTokens
from rosetta.tokenizer.unicode_classes import SPACE, class_of
from rosetta.tokenizer.unigram import Unigram
from rosetta.tokenizer.vocabulary import TokenizerFinding, TokenType, Vocabulary
from rosetta.tokenizer.word_pieces import WordPieces, lowercase


class Encoder(Protocol):
    """Text without special tokens -> ids; `first`: it stands at the start or after a special token."""

    def ids(self, text: str, first: bool) -> list[int]: ...


class Tokenizer:
    """A vocabulary that encodes.

    Args:
        vocabulary: the facts; V tokens.

    Raises:
        DamagedFileError: the vocabulary contradicts itself.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.facts = vocabulary
        self._special = SpecialTokens(vocabulary)
        self._encoder = _encoder(vocabulary)

    @property
    def vocabulary(self) -> Sequence[str]:
        """`[V]`, as the file spells them."""
        return self.facts.tokens

    @property
    def size(self) -> int:
        return len(self.facts.tokens)

    @property
    def model(self) -> str:
        """The kind, as the file calls it: `gpt2`, `llama`, `t5`, …"""
        return self.facts.model

    @property
    def pre(self) -> str | None:
        """The pre-tokenizer in use; None where the kind has none."""
        return self.facts.pre

    @property
    def bos_token_id(self) -> int | None:
        return self.facts.special_ids.get("bos")

    @property
    def eos_token_id(self) -> int | None:
        return self.facts.special_ids.get("eos")

    @property
    def add_bos(self) -> bool:
        return self.facts.add_bos

    @property
    def add_eos(self) -> bool:
        return self.facts.add_eos

    @property
    def findings(self) -> tuple[TokenizerFinding, ...]:
        return self.facts.findings

    @property
    def notes(self) -> tuple[str, ...]:
        return self.facts.notes

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The ids of a text.

        Args:
            text: any, also empty.
            special: add BOS and EOS where the file says so, and match control and unknown tokens in the text;
                user-defined tokens always are.

        Raises:
            UsageError: the text is no Unicode text (half of a surrogate pair).
        """
        check_unicode(text)
        ids: list[int] = []
        first = True
        for part in self._special.parts(text, special):
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += self._encoder.ids(part, first)
            first = isinstance(part, int)
        return self._framed(ids) if special else ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ids stand for; special tokens appear as they are spelt, a byte that is no text as �.

        Raises:
            UsageError: an id that is no token's.
        """
        text = b"".join(map(self._bytes, ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.facts.add_space_prefix else text

    def piece(self, id: int) -> str:
        """The text that one id stands for.

        Raises:
            UsageError: the id is no token's.
        """
        return self._bytes(id).decode("utf-8", "replace")

    def _framed(self, ids: list[int]) -> list[int]:
        special_ids, kind = self.facts.special_ids, self.facts.kind
        start = special_ids.get("bos") if self.add_bos or kind == "wordpiece" else None
        end = special_ids.get("eos") if self.add_eos else None
        end = special_ids.get("separator") if kind == "wordpiece" else end
        return [*([] if start is None else [start]), *ids, *([] if end is None else [end])]

    def _bytes(self, id: int) -> bytes:
        if not 0 <= id < self.size:
            raise UsageError(f"{id} is no token id: the vocabulary has {self.size:,} tokens")
        token = self.facts.tokens[id]
        if id in self._special:
            return token.encode("utf-8", "replace")
        if self.facts.types[id] == TokenType.BYTE and (byte := byte_of(token)) is not None:
            return byte
        return token_bytes(token, self.facts)


def load_tokenizer(container: Container) -> Tokenizer | None:
    """The tokenizer that a container embeds.

    Args:
        container: an open container of any kind, also one without tensors.

    Returns:
        None where it embeds none.

    Raises:
        DamagedFileError: what it embeds contradicts itself.
        UnsupportedError: its vocabulary is of a kind that is not read; the kind is named.
    """
    if container.kind == "huggingface":
        from rosetta.tokenizer.huggingface import load_folder  # needs more of the library than the others

        return load_folder(container.path)
    read = apr_vocabulary if container.kind == "apr" else gguf_vocabulary
    vocabulary = read(container)
    if vocabulary is None:
        return None
    try:
        return Tokenizer(vocabulary)
    except DamagedFileError as error:
        if error.file is not None:
            raise
        raise DamagedFileError(
            error.message, file=container.path, where=error.where, remedy=error.remedy
        ) from error


def token_bytes(token: str, vocabulary: Vocabulary) -> bytes:
    """The bytes that an ordinary token stands for."""
    if vocabulary.spelling == "bytes":
        return unspelt(token)
    if vocabulary.spelling == "hex" and (spelling := _from_hex(token)) is not None:
        return spelling
    return token.replace("▁", " ").encode("utf-8", "replace")


def byte_of(token: str) -> bytes | None:
    """The byte of a `<0xXX>` token; None for any other."""
    if len(token) != 6 or not token.startswith("<0x") or not token.endswith(">"):
        return None
    return _from_hex(token[3:5])


def check_unicode(text: str) -> None:
    """Refuse a text that has no UTF-8.

    Raises:
        UsageError: where its first lone surrogate stands.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"character {error.start:,} of the prompt is half of a surrogate pair: give the prompt as UTF-8"
        ) from None


def _encoder(vocabulary: Vocabulary) -> Encoder:
    if vocabulary.kind == "spm":
        return ScoredPairs(vocabulary)
    if vocabulary.kind == "unigram":
        return Unigram(vocabulary)
    if vocabulary.kind == "wordpiece":
        return WordPieces(vocabulary)
    if vocabulary.kind == "hex":
        return _hex_pairs(vocabulary)
    pairs = BytePairs(
        vocabulary.tokens, merge_pairs(vocabulary.merges), PRE_TOKENIZERS[vocabulary.pre or "default"]
    )
    return _WithoutSpaces(pairs, vocabulary.lowercase) if vocabulary.kind == "whitespace" else pairs


def _hex_pairs(vocabulary: Vocabulary) -> BytePairs:
    """Byte pairs over tokens and merges that spell each byte as two hex digits; without a pre-tokenizer the
    text is one word."""
    pre = PRE_TOKENIZERS[vocabulary.pre] if vocabulary.pre else PreTokenizer(())
    tokens = [spelt(data) if (data := _from_hex(token)) else token for token in vocabulary.tokens]
    merges = [
        (spelt(first), spelt(second))
        for left, right in merge_pairs(vocabulary.merges)
        if (first := _from_hex(left)) and (second := _from_hex(right))
    ]
    return BytePairs(tokens, merges, pre, vocabulary.special_ids.get("unknown"))


def _from_hex(digits: str) -> bytes | None:
    if len(digits) % 2 or not digits.isalnum():
        return None
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return None


class _WithoutSpaces:
    """llama.cpp's `whitespace` model: words are what stands between spaces, and the spaces are dropped."""

    def __init__(self, pairs: BytePairs, lower: bool) -> None:
        self._pairs, self._lower = pairs, lower

    def ids(self, text: str, first: bool) -> list[int]:
        kept = "".join(" " if class_of(character) == SPACE else character for character in text)
        kept = "".join(map(lowercase, kept)) if self._lower else kept
        return [piece for word in kept.split(" ") for piece in self._pairs.ids(word, first)]
