"""Merging with those merges alone that a text can meet gives what merging with all of them gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.vocabularies import TRICKY, Written, byte_level, hex_bytes, plain_pairs, without
from rosetta.tokenizer import byte_pairs
from rosetta.tokenizer.byte_pairs import BytePairs
from rosetta.tokenizer.embedded import gguf_vocabulary
from rosetta.tokenizer.encoders import encoder_of

STRANGE = ["zz q", "zzq zz", "nospace", "a b c", "Ġ Ġ", "Ġ Ġ", " x", "y ", "a a", "aa aa", "aa a"]
KINDS = {
    "byte-level": byte_level(),
    "whole-words": byte_level("llama-bpe"),
    "plain": plain_pairs(),
    "hex": hex_bytes(),
    "missing-bytes": without(byte_level("llama-bpe"), ["é", "0", "Ã", "o", "Ġ"]),
    "strange-merges": Written(
        "gpt2", byte_level().tokens, byte_level().types, merges=[*(byte_level().merges or ())[::2], *STRANGE]
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_merges_that_a_text_meets_are_enough(kind: str) -> None:
    vocabulary = gguf_vocabulary(KINDS[kind].container())
    assert vocabulary is not None
    encoder = encoder_of(vocabulary)
    assert isinstance(encoder, BytePairs)

    @settings(max_examples=80)
    @given(st.lists(st.one_of(st.sampled_from(TRICKY), st.text("aąq z0é\n", max_size=12)), max_size=3))
    def holds(parts: list[str]) -> None:
        text = "".join(parts)
        encoder._left = 1
        by_parts = encoder.ids(text, first=True)
        encoder._left, encoder._met_before = 0, (set(), encoder._complete)
        assert by_parts == encoder.ids(text, first=True)

    holds()


def test_all_merges_are_made_for_a_word_of_too_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = gguf_vocabulary(byte_level().container())
    assert vocabulary is not None
    encoder = encoder_of(vocabulary)
    assert isinstance(encoder, BytePairs)
    monkeypatch.setattr(byte_pairs, "PARTS_AT_MOST", 100)
    encoder.ids("a short one", first=True)
    assert "_complete" not in vars(encoder)
    encoder.ids("a" * 11, first=True)
    assert "_complete" in vars(encoder)
