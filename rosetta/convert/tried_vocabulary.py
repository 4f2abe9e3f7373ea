"""Vocabularies of which GGUF's keys alone do not tell what a text becomes: unigrams, word pieces, scored pairs.

Each way of writing one is read as llama.cpp reads it and tried on hard texts; the first that gives the source's ids is
written.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from rosetta.convert.draft import Draft
from rosetta.errors import RosettaError
from rosetta.tokenizer import Tokenizer
from rosetta.tokenizer.embedded import gguf_vocabulary
from rosetta.tokenizer.vocabulary import Vocabulary

PREFIX = "tokenizer.ggml."
Keys = dict[str, Any]

# What tokenizers of one vocabulary cut otherwise: spaces, line breaks, capitals, accents, digits, scripts, characters
# that are several in another form, and some that hardly any vocabulary has.
TEXTS = (
    "Hello world",
    "  Two  spaces, and   three ",
    "don't WE'VE I'll\n\n\tx = f(y)\n",
    "Café naïve Ångström é ½ Ⅷ ﬀ ①",
    "1 12 123 1234567 3.14 0x1F",
    "漢字とひらがな Привет мир مرحبا",
    "한국어 नमस्ते",
    "🙂🙂 👨‍👩‍👧 \u0378 \u200b!?...;;",
)


def unigram_ways(facts: Vocabulary, keys: Keys) -> Iterator[Keys]:
    """A unigram model (`t5`) with its normaliser; what it makes of spaces as it says first, then otherwise."""
    if facts.charsmap:
        keys = {**keys, PREFIX + "precompiled_charsmap": np.frombuffer(facts.charsmap, np.uint8)}
    stated = facts.add_space_prefix, facts.remove_extra_spaces
    for prefix, merged in sorted(product((True, False), repeat=2), key=lambda way: way != stated):
        yield {**keys, PREFIX + "add_space_prefix": prefix, PREFIX + "remove_extra_whitespaces": merged}


def word_piece_ways(facts: Vocabulary, keys: Keys) -> Iterator[Keys]:
    """Word pieces (`bert`): what becomes of capitals and accents as the source says first, then otherwise."""
    stated = facts.lowercase, facts.strip_accents
    for lower, bare in sorted(product((True, False), repeat=2), key=lambda way: way != stated):
        yield {**keys, PREFIX + "normalizer.lowercase": lower, PREFIX + "normalizer.strip_accents": bare}


# Models and pre-tokenizers of pairs by rank over text as it is: words that begin with ▁, with and without a BOS that is
# added whatever the file says; words that stand between spaces.
BY_RANK: tuple[Keys, ...] = (
    {PREFIX + "model": "gemma4", PREFIX + "add_bos_token": True},
    {PREFIX + "model": "gpt2", PREFIX + "pre": "sarvam-moe"},
    {PREFIX + "model": "whitespace", PREFIX + "pre": "whitespace"},
)


def scored_pair_ways(facts: Vocabulary, keys: Keys, prefix: bool) -> Iterator[Keys]:
    """Pairs by score (`llama`); where a rank of pairs says another order, by rank."""
    if facts.pre != "whitespace":
        yield {**keys, PREFIX + "add_space_prefix": prefix}
    if facts.merges:
        by_rank = {key: value for key, value in keys.items() if key != PREFIX + "pre"}
        by_rank |= {PREFIX + "merges": list(facts.merges), PREFIX + "add_space_prefix": False}
        by_rank |= {PREFIX + "normalizer.lowercase": True} if facts.lowercase else {}
        for way in sorted(BY_RANK, key=lambda way: way.get(PREFIX + "pre") != facts.pre):
            yield {**by_rank, **way}


def tried(tokenizer: Tokenizer, ways: Iterator[Keys], path: Path) -> tuple[Keys, str | None]:
    """The first way that gives the source's ids; else the best, and a sentence that says what it does otherwise.

    Args:
        tokenizer: the source's.
        ways: of writing it, the likeliest first; at least one.
        path: of the source.
    """
    wanted = [tokenizer.encode(text, special) for text, special in _cases()]
    best: tuple[int, Keys, str] | None = None
    for keys in ways:
        got = _ids(keys, path)
        wrong = [case for case, ids, right in zip(_cases(), got, wanted, strict=True) if ids != right]
        if not wrong:
            return keys, None
        if best is None or len(wrong) < best[0]:
            best = len(wrong), keys, wrong[0][0]
    assert best is not None
    why = (
        "what no token covers becomes the unknown token there, not bytes: "
        if tokenizer.facts.byte_fallback
        else ""
    )
    said = f"llama.cpp makes other tokens of {best[0]} of {len(wanted)} texts, first of {best[2]!r:.50}"
    return best[1], f"{why}{said}"


def _cases() -> list[tuple[str, bool]]:
    return [*((text, False) for text in TEXTS), (TEXTS[0], True)]


def _ids(keys: Keys, path: Path) -> list[list[int] | None]:
    """What llama.cpp makes of each case; None of what it refuses."""
    try:
        facts = gguf_vocabulary(Draft(path, "gguf", metadata=keys))
        read = None if facts is None else Tokenizer(facts)
        return [None if read is None else read.encode(text, special) for text, special in _cases()]
    except RosettaError:
        return [None] * len(_cases())
