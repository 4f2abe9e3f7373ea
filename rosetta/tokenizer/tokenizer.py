"""A tokenizer with its facts, whatever container it came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from rosetta.errors import UsageError
from rosetta.tokenizer.encoders import Codec
from rosetta.tokenizer.vocabulary import TokenizerFinding, Vocabulary


class TextCodec(Protocol):
    """What turns text into ids and back."""

    def encode(self, text: str, special: bool) -> list[int]: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def bytes_of(self, id: int) -> bytes: ...


class Tokenizer:
    """A vocabulary that encodes.

    Args:
        facts: the vocabulary; V tokens.
        codec: by default llama.cpp's way with such a vocabulary.

    Raises:
        DamagedFileError: the vocabulary contradicts itself.
    """

    def __init__(self, facts: Vocabulary, codec: TextCodec | None = None) -> None:
        self.facts = facts
        self.codec = codec or Codec(facts)

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
                user-defined tokens always are. Without it a unigram folder still takes a control token that the
                text spells as one of its pieces, as transformers does; llama.cpp spells it out.

        Raises:
            UsageError: the text is no Unicode text (half of a surrogate pair).
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"character {error.start:,} of the prompt is half of a surrogate pair",
                remedy="give the prompt as UTF-8",
            ) from None
        return self.codec.encode(text, special)

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ids stand for; special tokens appear as they are spelt, a byte that is no text as �.

        Raises:
            UsageError: an id that is no token's.
        """
        return self.codec.decode([self._checked(id) for id in ids])

    def piece(self, id: int) -> str:
        """The text that one id stands for.

        Raises:
            UsageError: the id is no token's.
        """
        return self.codec.bytes_of(self._checked(id)).decode("utf-8", "replace")

    def _checked(self, id: int) -> int:
        if not 0 <= id < self.size:
            raise UsageError(f"{id} is no token id: the vocabulary has {self.size:,} tokens")
        return id
