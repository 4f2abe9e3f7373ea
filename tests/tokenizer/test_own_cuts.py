"""A vocabulary's own tokens say by which cuts it was made: published ones, and one that is made up."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.vocabularies import Written
from rosetta.containers import open_container
from rosetta.lint.engine import linted, selected_rules
from rosetta.tokenizer.byte_alphabet import spelt
from rosetta.tokenizer.embedded import gguf_vocabulary
from rosetta.tokenizer.own_cuts import better_pre_tokenizer
from rosetta.tokenizer.vocabulary import TokenType, Vocabulary


def vocabulary(pre: str, words: list[str]) -> Vocabulary:
    """Byte pairs of these tokens."""
    tokens = [spelt(word.encode()) for word in words]
    types = np.full(len(tokens), TokenType.NORMAL, np.int32)
    return Vocabulary("bpe", "gpt2", tokens, "bytes", pre, pre, types=types)


LETTERS = ["".join(three) for three in itertools.product("abcdefghi", repeat=3)]
BRACKETED = [f"({word}" for word in LETTERS]


@pytest.mark.parametrize("pre", ["gpt-2", "starcoder", "default"])
def test_cuts_between_a_sign_and_its_word_are_not_of_a_vocabulary_that_joins_them(pre: str) -> None:
    found = better_pre_tokenizer(vocabulary(pre, BRACKETED))
    assert found == (500, 500, "llama-bpe")


@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2", "tekken"])
def test_cuts_that_leave_all_tokens_whole_are_its_own(pre: str) -> None:
    assert better_pre_tokenizer(vocabulary(pre, BRACKETED)) is None


def test_few_tokens_tell_nothing() -> None:
    assert better_pre_tokenizer(vocabulary("gpt-2", BRACKETED[:400])) is None


def test_tokens_that_no_way_of_cutting_leaves_whole_accuse_no_name() -> None:
    assert better_pre_tokenizer(vocabulary("gpt-2", [f"{word}\n{word}!" for word in LETTERS])) is None


@pytest.mark.requires_samples
@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen2"])
def test_published_vocabularies_are_made_by_what_they_name(samples: Path, name: str) -> None:
    path = samples / "vocabs" / f"ggml-vocab-{name}.gguf"
    facts = gguf_vocabulary(open_container(path))
    assert facts is not None
    assert better_pre_tokenizer(facts) is None
    others = {pre: better_pre_tokenizer(replace(facts, pre=pre)) for pre in ("gpt-2", "falcon", "tekken")}
    if name != "gpt-2":
        assert {found and found[2] for found in others.values()} == {name}


def test_lint_says_which_name_leaves_the_tokens_whole(tmp_path: Path) -> None:
    facts = vocabulary("gpt-2", BRACKETED)
    written = Written("gpt2", facts.tokens, [1] * len(facts.tokens), merges=["a a"], pre="gpt-2")
    found = linted(written.write(tmp_path / "vocabulary.gguf"), rules=selected_rules(["T315"]), values=False)
    (one,) = found
    assert (
        "is 'gpt-2', which cuts 500 of 500 of the vocabulary's tokens; 'llama-bpe' leaves them whole"
        in one.line()
    )
