"""Two vocabularies -> the facts in which they differ. What legitimately differs (padding) is none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rosetta.tokenizer.json_steps import spaced_pieces
from rosetta.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from rosetta.tokenizer.special_tokens import looks_special, special_ids
from rosetta.tokenizer.vocabulary import TokenType, Vocabulary

_EXAMPLES = 8
_PADDING = re.compile(r"\[PAD\d+\]|<unk>|")  # how converters fill a vocabulary up to the embedding's rows
# What a file says of itself, and of what we made of it.
_NOT_READ = ("model", "declared_pre", "add_bos_by_pre", "typed_either_way", "findings", "notes")
_HIDDEN = [int(kind) for kind in (TokenType.CONTROL, TokenType.UNKNOWN)]
_FOUND_WHOLE = [int(kind) for kind in (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)]
ENCODER_READS = {  # encoders.py, encoder_of; of other kinds it may read anything
    "bpe": ("tokens", "merges", "pre"),
    "hex": ("tokens", "merges", "pre", "special_ids"),
    "whitespace": ("tokens", "merges", "pre", "lowercase"),
}
_BY_RANK = ("bpe", "hex", "whitespace")


@dataclass(frozen=True)
class VocabularyDifference:
    """One fact in which two vocabularies differ.

    Args:
        kind: a finding kind of the report: `tokenizer.vocabulary`, `tokenizer.merges`,
            `tokenizer.pre_tokenizer`, `tokenizer.special_tokens`, `tokenizer.bos`.
        key: `size`, `tokens`, `merges`, `pre`, `bos_token_id`, `eos_token_id`, `add_bos`, `add_eos`, `types`.
        left, right: the two values; counts where `examples` holds the values.
        examples: the first places that differ: (id or rank, left, right); None where a side has nothing.
        message: one sentence.
    """

    kind: str
    key: str
    left: Any
    right: Any
    message: str
    examples: tuple[tuple[int, str | None, str | None], ...] = ()


def compare_vocabularies(left: Vocabulary, right: Vocabulary) -> list[VocabularyDifference]:
    """The facts in which two vocabularies differ.

    Args:
        left, right: `Tokenizer.facts` of the two sides.

    Returns:
        In the order size, tokens, merges, pre-tokenizer, special tokens, BOS and EOS; empty when both encode
        alike as far as these facts tell.
    """
    found = [*_tokens(left, right), *_merges(left, right), *_pre(left, right), *_types(left, right)]
    for role in ("bos", "eos", *sorted(left.special_ids.keys() & right.special_ids.keys() - {"bos", "eos"})):
        ids = left.special_ids.get(role), right.special_ids.get(role)
        if ids[0] != ids[1] and None not in ids:
            kind = "tokenizer.bos" if role == "bos" else "tokenizer.special_tokens"
            found.append(_plain(kind, f"{role}_token_id", *ids))
    for key in ("add_bos", "add_eos"):
        flags = _adds(left, key), _adds(right, key)
        if flags[0] != flags[1]:
            kind = "tokenizer.bos" if key == "add_bos" else "tokenizer.special_tokens"
            found.append(_plain(kind, key, *flags))
    return found


def _adds(vocabulary: Vocabulary, key: str) -> bool:
    """Whether a prompt is begun or ended; llama.cpp frames word pieces whatever the file says."""
    added: bool = getattr(vocabulary, key)
    return added or vocabulary.kind == "wordpiece"


def same_encoder(a: Vocabulary, b: Vocabulary) -> bool:
    """Whether one encoder serves both vocabularies: they agree in every fact that making it reads."""
    if a.kind != b.kind:
        return False
    names = ENCODER_READS.get(a.kind, [field.name for field in fields(Vocabulary)])
    return all(_equal(getattr(a, name), getattr(b, name)) for name in names if name not in _NOT_READ)


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b)


def _tokens(left: Vocabulary, right: Vocabulary) -> list[VocabularyDifference]:
    found = []
    sizes = _size_without_padding(left), _size_without_padding(right)
    common = min(len(left.tokens), len(right.tokens))
    longer = max(sizes)
    if sizes[0] != sizes[1] and longer > common:
        found.append(_plain("tokenizer.vocabulary", "size", *sizes))
    spelt = _spelt_alike(left, right)[:common], _spelt_alike(right, left)[:common]
    if spelt[0] != spelt[1]:
        pairs = zip(*spelt, strict=True)
        places = [(id, *pair) for id, pair in enumerate(pairs) if pair[0] != pair[1]]
        places = [place for place in places if not _both_padding(place, left, right)]
        if places:
            message = f"{len(places):,} of {common:,} tokens differ, first token {places[0][0]}"
            example = tuple(places[:_EXAMPLES])
            found.append(
                VocabularyDifference(
                    "tokenizer.vocabulary", "tokens", len(places), len(places), message, example
                )
            )
    return found


def _spelt_alike(vocabulary: Vocabulary, other: Vocabulary) -> Sequence[str]:
    """The tokens, a folder's word pieces as GGUF spells them where the other's are spelt so."""
    if vocabulary.model != "WordPiece" or other.model == "WordPiece":
        return vocabulary.tokens
    return spaced_pieces(vocabulary.tokens, vocabulary.types, vocabulary.continuing_prefix)


def _merges(left: Vocabulary, right: Vocabulary) -> list[VocabularyDifference]:
    """Merges lost, added, or in another order; sides that do not merge by rank have none to compare."""
    if not (_merges_by_rank(left) and _merges_by_rank(right)) or list(left.merges) == list(right.merges):
        return []
    ranks = _ranks(left.merges), _ranks(right.merges)
    only_left = [merge for merge in ranks[0] if merge not in ranks[1]]
    only_right = [merge for merge in ranks[1] if merge not in ranks[0]]
    if only_left or only_right:
        message = f"{len(only_left):,} merges are only on the left, {len(only_right):,} only on the right"
        places = [
            *((ranks[0][merge], merge, None) for merge in only_left[:_EXAMPLES]),
            *((ranks[1][merge], None, merge) for merge in only_right[:_EXAMPLES]),
        ]
        examples = tuple(sorted(places, key=lambda place: place[0]))
    else:
        pairs = zip(ranks[0], ranks[1], strict=True)
        moved = [(rank, *pair) for rank, pair in enumerate(pairs) if pair[0] != pair[1]]
        if not moved:
            return []
        message = f"{len(moved):,} merges stand in another order, first rank {moved[0][0]}"
        examples = tuple(moved[:_EXAMPLES])
    return [
        VocabularyDifference("tokenizer.merges", "merges", len(ranks[0]), len(ranks[1]), message, examples)
    ]


def _pre(left: Vocabulary, right: Vocabulary) -> list[VocabularyDifference]:
    """Two names of one pre-tokenizer are no difference, nor is one that cannot be told."""
    names = left.pre, right.pre
    if None in names or names[0] == names[1]:
        return []
    cuts = [PRE_TOKENIZERS[name].cuts if name in PRE_TOKENIZERS else name for name in names]
    return [] if cuts[0] == cuts[1] else [_plain("tokenizer.pre_tokenizer", "pre", *names)]


def _types(left: Vocabulary, right: Vocabulary) -> list[VocabularyDifference]:
    """Tokens that only one side finds in a text as a whole, or that only one side hides."""
    whole = _whole(left, right)
    hidden = _hidden(left, right)
    either = left.typed_either_way | right.typed_either_way
    only = sorted(whole[0] ^ whole[1]), sorted((hidden[0] ^ hidden[1]) - either)
    said = (
        (only[0], "special", whole),
        (only[1], "control tokens, which are neither written out nor found in plain text,", hidden),
    )
    examples = tuple(
        (id, left.tokens[id] if id in sets[0] else None, right.tokens[id] if id in sets[1] else None)
        for ids, _, sets in said
        for id in ids[:_EXAMPLES]
    )
    if not examples:
        return []
    message = "; ".join(
        f"{len(ids):,} tokens are {what} on one side only, first {ids[0]}, {_typed(ids[0], left, right)}"
        for ids, what, _ in said
        if ids
    )
    left_count, right_count = map(len, whole if only[0] else hidden)
    return [
        VocabularyDifference("tokenizer.special_tokens", "types", left_count, right_count, message, examples)
    ]


def mended_types(own: Vocabulary, believed: Vocabulary) -> NDArray[np.int32]:
    """The types of a vocabulary `[V]`, those in which it differs taken from another: one of a folder flags tokens
    otherwise than files type them, and has none for padding."""
    whole, hidden = _whole(own, believed), _hidden(own, believed)
    either = own.typed_either_way | believed.typed_either_way
    types = own.types.copy()
    for id in (whole[0] ^ whole[1]) | ((hidden[0] ^ hidden[1]) - either):
        shown = believed.types[id] == TokenType.USER_DEFINED
        types[id] = TokenType.CONTROL if shown and looks_special(believed.tokens[id]) else believed.types[id]
    return types


def type_note(left: Vocabulary, right: Vocabulary) -> str | None:
    """What is to be known of tokens that are control tokens in one file and user-defined in the other where that is no
    difference: converters type them so and so, or llama.cpp's loader takes them for the same."""
    whole = _whole(left, right)
    stated = [
        {id for id in whole[0] & whole[1] if int(vocabulary.types[id]) in _HIDDEN}
        for vocabulary in (left, right)
    ]
    hidden = _hidden(left, right)
    either = left.typed_either_way | right.typed_either_way
    alike = sorted((stated[0] ^ stated[1]) - ((hidden[0] ^ hidden[1]) - either))
    if not alike:
        return None
    return (
        f"{len(alike):,} tokens are control tokens on one side only, first {alike[0]}, "
        f"{_typed(alike[0], left, right)}: converters type such tokens either way, or llama.cpp overrides the type"
    )


def _whole(left: Vocabulary, right: Vocabulary) -> tuple[set[int], set[int]]:
    """The ids that each side finds in a text as a whole, of those that both have."""
    common = min(len(left.tokens), len(right.tokens))
    found = [np.flatnonzero(np.isin(each.types[:common], _FOUND_WHOLE)).tolist() for each in (left, right)]
    return set(found[0]), set(found[1])


def _hidden(left: Vocabulary, right: Vocabulary) -> tuple[set[int], set[int]]:
    """The ids, of those that both sides find as a whole, that each takes for control tokens: as its types say, and in a
    file that llama.cpp loads as its loader makes of them."""
    whole = _whole(left, right)
    both = whole[0] & whole[1]
    found = []
    for vocabulary in (left, right):
        if vocabulary.kind == "huggingface":
            found.append({id for id in both if int(vocabulary.types[id]) in _HIDDEN})
        else:
            special = special_ids(vocabulary)
            found.append({id for id in both if special.get(id, False)})
    return found[0], found[1]


def _typed(id: int, left: Vocabulary, right: Vocabulary) -> str:
    """A token as each side has it, each with its type."""
    return ", ".join(
        f"{vocabulary.tokens[id]!r} ({_type_name(int(vocabulary.types[id]))}) on the {which}"
        for which, vocabulary in (("left", left), ("right", right))
    )


def _type_name(kind: int) -> str:
    return next((known.name.lower() for known in TokenType if known == kind), f"type {kind}")


def _plain(kind: str, key: str, left: Any, right: Any) -> VocabularyDifference:
    return VocabularyDifference(kind, key, left, right, f"{key} is {left} on the left, {right} on the right")


def _ranks(merges: Sequence[str]) -> Mapping[str, int]:
    return {merge: rank for rank, merge in enumerate(dict.fromkeys(merges))}


def _merges_by_rank(vocabulary: Vocabulary) -> bool:
    return vocabulary.kind in _BY_RANK or (
        vocabulary.kind == "huggingface" and vocabulary.spelling == "bytes"
    )


def _size_without_padding(vocabulary: Vocabulary) -> int:
    size = len(vocabulary.tokens)
    while size and _is_padding(vocabulary, size - 1):
        size -= 1
    return size


def _both_padding(place: tuple[int, str, str], left: Vocabulary, right: Vocabulary) -> bool:
    return _is_padding(left, place[0]) and _is_padding(right, place[0])


def _is_padding(vocabulary: Vocabulary, id: int) -> bool:
    unused = vocabulary.types[id] == TokenType.UNUSED
    return bool(unused) or _PADDING.fullmatch(vocabulary.tokens[id]) is not None
