"""What a container says of its tokenizer, in one form for all containers. Holds facts; encodes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Spelling = Literal["bytes", "hex", "plain"]
Kind = Literal["bpe", "hex", "spm", "unigram", "wordpiece", "whitespace", "huggingface"]


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`, gguf-py's TokenType."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class TokenizerFinding:
    """Something in the file's description of its tokenizer that is wrong, and what it should likely be.

    Args:
        kind: a finding kind of the report: `tokenizer.pre_tokenizer`.
        key: the file's own key.
        declared, likely: what the file says and what it should likely say; None where nothing can be told.
        message, recommendation: one sentence each.
    """

    kind: str
    key: str
    declared: str | None
    likely: str | None
    message: str
    recommendation: str


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as a container describes it, defaults filled in; V = number of tokens.

    Args:
        kind: which algorithm encodes: byte pairs by rank (`bpe`; `hex` where a byte is spelt as two hex
            digits; `whitespace` where spaces are dropped), pairs by score (`spm`), `unigram`, `wordpiece`, or
            a Hugging Face folder's own (`huggingface`).
        model: what the file calls it: `gpt2`, `llama`, `t5`, `BPE`.
        pre: the pre-tokenizer in use; None where the kind has none or it cannot be told.
        declared_pre: the pre-tokenizer's name in the file.
        tokens: `[V]`, index = id.
        spelling: how tokens are written: in GPT-2's byte alphabet, in hex digits, plainly with ▁ for space.
        scores: float32 `[V]`; empty where there are none.
        types: TokenType `[V]`.
        typed_either_way: ids that one converter types CONTROL and another USER_DEFINED, whatever the file says.
        merges: `left right`, best first.
        special_ids: `bos`, `eos`, `unknown`, `separator`, `fim_pre`, … -> id; only valid ids.
        add_bos_by_pre: the file does not say `add_bos`, which follows from `pre`.
        add_bos, add_eos: whether a prompt gets them.
        add_space_prefix: a text starts with a space that is not written (`spm`, `unigram`).
        space_after_special: the same after each special token in the text, not only at its start (`spm`).
        remove_extra_spaces: runs of spaces count as one (`unigram`).
        charsmap: SentencePiece's precompiled normaliser; empty where there is none.
        byte_fallback: what no token covers is spelt in `<0xXX>` tokens (`unigram`; `spm` always does).
        ignore_merges: a word that is a token stays whole (a folder's tokenizer.json says so; else `pre` does).
        continuing_prefix: what a folder puts before a word piece that goes on with a word; empty elsewhere.
        lowercase, strip_accents: BERT's normaliser (`wordpiece`, `whitespace`).
        places: where the container says what GGUF says under a key (`tokenizer.ggml.pre`); a key that is not there
            is the container's own.
        name, architecture: of the model; a few models' special tokens swallow the spaces around them.
        findings, notes: what is wrong, and what was assumed or tolerated, one sentence each.
    """

    kind: Kind
    model: str
    tokens: Sequence[str] = field(repr=False)
    spelling: Spelling = "plain"
    pre: str | None = None
    declared_pre: str | None = None
    add_bos_by_pre: bool = False
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)
    types: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32), repr=False)
    typed_either_way: frozenset[int] = field(default=frozenset(), repr=False)
    merges: Sequence[str] = field(default=(), repr=False)
    special_ids: Mapping[str, int] = field(default_factory=dict)
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False
    space_after_special: bool = True
    remove_extra_spaces: bool = False
    charsmap: bytes = field(default=b"", repr=False)
    byte_fallback: bool = False
    ignore_merges: bool = False
    continuing_prefix: str = ""
    lowercase: bool = False
    strip_accents: bool = False
    places: Mapping[str, str] = field(default_factory=dict, repr=False)
    name: str = ""
    architecture: str = ""
    findings: tuple[TokenizerFinding, ...] = ()
    notes: tuple[str, ...] = ()


def ids_of(tokens: Sequence[str]) -> dict[str, int]:
    """Token -> id; of a token that stands twice, the first id."""
    return dict(zip(reversed(tokens), range(len(tokens) - 1, -1, -1), strict=True))
