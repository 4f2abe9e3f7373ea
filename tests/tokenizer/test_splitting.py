"""Cutting texts into words: nothing is lost, classes are Unicode's, and work grows no faster than the text."""

from __future__ import annotations

import functools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from fixtures.counted_pattern import CountedPattern
from fixtures.vocabularies import TRICKY
from rosetta.tokenizer import splitting
from rosetta.tokenizer.byte_alphabet import ALPHABET, spelt, unspelt
from rosetta.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from rosetta.tokenizer.splitting import words
from rosetta.tokenizer.unicode_classes import (
    CONTROL,
    HAN,
    LETTER,
    MARK,
    NUMBER,
    OTHER,
    OTHER_HAN,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    class_of,
    reduced,
    with_ascii_spaces,
)

DIFFERENT = {pre.cuts: name for name, pre in PRE_TOKENIZERS.items()}
LONG = (  # (before, many times, after)
    ("", " ", ""),
    ("", "a", ""),
    ("", "7", ""),
    ("", "漢", ""),
    ("", "!", ""),
    ("", "\u0301", ""),
    ("", "\n ", ""),
    ("", "A1", ""),
    ("", "é'", ""),
    ("", " ", "漢"),
    ("\n", " ", "7"),
)


@given(st.text())
def test_words_joined_are_the_text(text: str) -> None:
    for cuts, name in DIFFERENT.items():
        assert "".join(words(text, cuts)) == text, name


@pytest.mark.parametrize("text", TRICKY)
def test_gpt2_cuts_as_the_tokenizers_library_does(text: str) -> None:
    library = pre_tokenizers.ByteLevel(add_prefix_space=False)
    expected = [word for word, _ in library.pre_tokenize_str(text)]
    assert [spelt(word.encode()) for word in words(text, PRE_TOKENIZERS["gpt-2"].cuts)] == expected


@pytest.mark.parametrize("name", ["jais-2", "deepseek-llm", "superbpe", "afmoe", "exaone-moe", "gpt-4o"])
def test_twice_the_text_takes_twice_the_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a matcher that counts them; where a search begins anew at every character there are four times."""
    compiled = splitting._compiled
    cuts = PRE_TOKENIZERS[name].cuts
    for before, repeated, after in LONG:
        often = 1000 if name == "jais-2" and repeated == " " else 60  # it takes 512 spaces at once
        steps = []
        for times in (often, 2 * often):
            text = before + times * repeated + after
            expected = words(text, cuts)
            patterns: list[CountedPattern] = []

            @functools.cache
            def counted(expression: str, patterns: list[CountedPattern] = patterns) -> CountedPattern:
                patterns.append(CountedPattern(compiled(expression).pattern))
                return patterns[-1]

            with monkeypatch.context() as patch:
                patch.setattr(splitting, "_compiled", counted)
                assert words(text, cuts) == expected
            steps.append(sum(pattern.steps for pattern in patterns))
        assert 0 < steps[1] <= 2.1 * steps[0], (repeated, after)


def test_classes_are_unicodes() -> None:
    """Every character that this interpreter's Unicode assigns has its class; later ones it cannot judge."""
    letters = {
        "L": {LETTER, HAN},
        "N": {NUMBER},
        "M": {MARK},
        "P": {PUNCTUATION},
        "S": {SYMBOL},
        "C": {CONTROL},
    }
    newer = unicodedata.unidata_version.split(".") > ["15", "1"]
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        kind = class_of(chr(code))
        if kind == SPACE:
            assert category[0] == "Z" or chr(code) in "\t\n\v\f\r\x85"
        elif category != "Cn" and not (newer and kind in (OTHER, OTHER_HAN)):
            assert kind in letters[category[0]], hex(code)


@given(st.text())
def test_reduced_texts_keep_their_length_and_their_ascii(text: str) -> None:
    for view in (reduced(text), with_ascii_spaces(text)):
        assert len(view) == len(text)
        assert all(a == b for a, b in zip(text, view, strict=True) if a.isascii())


def test_the_byte_alphabet_is_gpt2s() -> None:
    library = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert set(pre_tokenizers.ByteLevel.alphabet()) == ALPHABET
    for text in (*TRICKY[1:], "".join(map(chr, range(1, 0x2000)))):
        assert spelt(text.encode()) == library.pre_tokenize_str(text)[0][0]


@given(st.binary())
def test_the_byte_alphabet_is_read_back(data: bytes) -> None:
    assert unspelt(spelt(data)) == data
