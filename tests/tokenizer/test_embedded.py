"""What a file says of its tokenizer is believed, defaulted, reported or refused, and never crashes."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.vocabularies import (
    CONTROL,
    TRICKY,
    USER_DEFINED,
    Written,
    byte_level,
    hex_bytes,
    plain_pairs,
    scored,
    stand_in,
    unigram,
    word_pieces,
)
from rosetta.errors import DamagedFileError, RosettaError, UnsupportedError, UsageError
from rosetta.tokenizer import Tokenizer, load_tokenizer


def loaded(container: Any) -> Tokenizer:
    tokenizer = load_tokenizer(container)
    assert tokenizer is not None
    return tokenizer


def apr(written: Written, **changes: Any) -> Any:
    """The vocabulary as an APR file holds it."""
    names = {"tokens": "vocabulary", "pre": "pre_type"}
    metadata = {}
    for key, value in written.metadata().items():
        if key.startswith("tokenizer.ggml."):
            name = key.removeprefix("tokenizer.ggml.")
            metadata[f"tokenizer.{names.get(name, name)}"] = value
    metadata |= {f"tokenizer.{key}": value for key, value in changes.items()}
    return stand_in(
        "apr", {key: value for key, value in metadata.items() if value is not None}, written.architecture
    )


@pytest.mark.parametrize("declared", ["llama", "gpt2", "qwen", "nonsense"])
def test_a_pre_tokenizer_that_does_not_exist_is_a_finding(declared: str) -> None:
    tokenizer = loaded(byte_level(declared).container())
    (finding,) = tokenizer.findings
    assert (finding.kind, finding.declared) == ("tokenizer.pre_tokenizer", declared)
    assert f"'{declared}'" in finding.message
    assert finding.likely == tokenizer.pre
    assert f"'{finding.likely}'" in finding.recommendation


@pytest.mark.parametrize(
    ("tokens", "architecture", "likely"),
    [
        (["<|begin_of_text|>", "<|eot_id|>"], "llama", "llama-bpe"),
        (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "qwen2", "qwen2"),
        (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "llama", "qwen2"),
        (["[INST]", "[/INST]"], "llama", "tekken"),
    ],
)
def test_the_likely_name_is_told_by_the_vocabulary_first(
    tokens: list[str], architecture: str, likely: str
) -> None:
    size = 152_000
    many = [*(f"t{index}" for index in range(size)), *tokens]
    written = Written("gpt2", many, [1] * len(many), ["a b"], pre="llama", architecture=architecture)
    assert loaded(written.container()).findings[0].likely == likely


def test_nothing_likely_is_said_so() -> None:
    (finding,) = loaded(replace(byte_level("nonsense"), architecture="nothing").container()).findings
    assert finding.likely is None
    assert "name that llama.cpp knows" in finding.recommendation


def test_a_missing_pre_tokenizer_is_llamacpps_default_and_a_note() -> None:
    tokenizer = loaded(byte_level(None).container())
    assert tokenizer.pre == "default"
    assert not tokenizer.findings
    assert "falls back to 'default'" in tokenizer.notes[0]


def test_a_missing_pre_tokenizer_of_an_apr_is_told_by_its_architecture() -> None:
    tokenizer = loaded(apr(replace(byte_level(None), architecture="qwen2")))
    assert tokenizer.pre == "qwen2"
    assert "the architecture is qwen2" in tokenizer.notes[0]


@pytest.mark.parametrize("text", TRICKY)
@pytest.mark.parametrize(
    "written", [byte_level("qwen2"), scored(), plain_pairs()], ids=["gpt2", "llama", "gemma4"]
)
def test_an_apr_encodes_as_a_gguf_does(written: Written, text: str) -> None:
    flags = {"add_bos_token": True}
    gguf, other = replace(written, keys=written.keys | flags), apr(written, **flags)
    assert loaded(other).encode(text) == loaded(gguf.container()).encode(text)


@pytest.mark.parametrize("model", ["BPE", "gpt2", None])
def test_an_apr_names_its_model_in_either_key(model: str | None) -> None:
    other = apr(byte_level("qwen2"), model=None, model_type=model)
    assert loaded(other).encode("Hello world") == loaded(byte_level("qwen2").container()).encode(
        "Hello world"
    )


def test_special_tokens_of_an_apr_without_types_are_told_by_their_shape() -> None:
    written = byte_level("qwen2")
    tokens = [*written.tokens, "<|a b|>", "<think>", "</think>", "<Not>", "<waytoolongforanytokenname>"]
    tokenizer = loaded(apr(replace(written, tokens=tokens), token_type=None))
    ids = {token: index for index, token in enumerate(tokens)}
    for token in ("<|a b|>", "<think>", "</think>", "<s>"):
        assert tokenizer.encode(f"x{token}", special=True)[-1] == ids[token], token
        assert ids[token] not in tokenizer.encode(f"x{token}", special=False), token
    for token in ("<Not>", "<waytoolongforanytokenname>"):
        assert ids[token] not in tokenizer.encode(f"x{token}"), token
    assert "recognised by their shape" in " ".join(tokenizer.notes)


def test_user_defined_tokens_are_matched_without_special_tokens_too() -> None:
    written = byte_level()
    tokenizer = loaded(
        replace(written, keys=written.keys | {"add_bos_token": True, "add_eos_token": True}).container()
    )
    ids = {token: index for index, token in enumerate(written.tokens)}
    assert written.types[ids["<s>"]] == CONTROL
    assert written.types[ids["<|user|>"]] == USER_DEFINED
    assert tokenizer.encode("<|user|>") == [ids["<s>"], ids["<|user|>"], ids["</s>"]]
    assert tokenizer.encode("<|user|>", special=False) == [ids["<|user|>"]]
    assert ids["<s>"] not in tokenizer.encode("<s>", special=False)
    assert tokenizer.encode("") == [ids["<s>"], ids["</s>"]]
    assert tokenizer.encode("", special=False) == []


@pytest.mark.parametrize("model", ["gpt2", "BPE", "never-heard-of"])
def test_a_vocabulary_of_hex_bytes_spells_bytes(model: str) -> None:
    written = hex_bytes(model, missing=range(0x80, 0xB0))
    tokenizer = loaded(written.container())
    ids = {token: index for index, token in enumerate(written.tokens)}
    assert tokenizer.encode("Hi! Hi\xff") == [ids["486921"], ids["20"], ids["4869"], ids["c3"], ids["bf"]]
    assert tokenizer.encode("\x80") == [ids["c2"], ids["<unk>"]]
    assert tokenizer.decode(tokenizer.encode("Hi! Hi\xff")) == "Hi! Hi\xff"
    assert [tokenizer.piece(ids[token]) for token in ("4869", "20", "<unk>")] == ["Hi", " ", "<unk>"]


def test_hex_bytes_without_merges_are_one_token_a_byte() -> None:
    written = hex_bytes(merges=())
    tokenizer = loaded(written.container())
    assert tokenizer.encode("né\n") == [written.tokens.index(f"{byte:02x}") for byte in "né\n".encode()]


def test_200_hex_bytes_are_enough_and_199_are_not() -> None:
    enough = hex_bytes("never-heard-of", missing=range(56))
    assert loaded(enough.container()).encode("abc") == [
        enough.tokens.index(digits) for digits in ("61", "62", "63")
    ]
    with pytest.raises(UnsupportedError, match="never-heard-of"):
        load_tokenizer(hex_bytes("never-heard-of", missing=range(57)).container())


@pytest.mark.parametrize("model", ["rwkv", "plamo2", "hybriddna", "WordLevel", "☃"])
def test_a_kind_that_is_not_read_is_refused_by_name(model: str) -> None:
    with pytest.raises(UnsupportedError, match=model):
        load_tokenizer(replace(byte_level(), model=model).container())


@pytest.mark.parametrize(
    "container",
    [stand_in("gguf", {}), stand_in("apr", {}), stand_in("gguf", {"tokenizer.ggml.model": "none"})],
)
def test_no_tokenizer_is_none(container: Any) -> None:
    assert load_tokenizer(container) is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("tokens", None, "tokenizer.ggml.tokens"),
        ("tokens", ["a", 3], "a int instead of a text at index 1"),
        ("tokens", "abc", "no list"),
        ("model", None, "tokenizer.ggml.model"),
        ("model", 3, "no text"),
        ("pre", 3, "no text"),
        ("merges", [1], "instead of a text"),
        ("scores", [1.0], "1 entries for"),
        ("scores", ["x"], "no list of numbers"),
        ("token_type", [1], "1 entries for"),
        ("bos_token_id", "one", "no integer"),
        ("add_bos_token", 1, "neither true nor false"),
    ],
)
def test_damage_is_named(key: str, value: Any, said: str) -> None:
    metadata = byte_level().metadata() | {f"tokenizer.ggml.{key}": value}
    with pytest.raises(DamagedFileError, match=said) as caught:
        load_tokenizer(stand_in("gguf", {k: v for k, v in metadata.items() if v is not None}))
    assert str(caught.value).startswith("model.gguf")


@pytest.mark.parametrize(
    ("charsmap", "said"),
    [
        (b"\x01", "precompiled_charsmap"),
        (b"\xff\xff\xff\xff1234", "ends at byte"),
        (b"\x04\0\0\0" + b"\0\xff\xff\xff" + b"x", "is asked for"),
    ],
)
def test_a_charsmap_that_contradicts_itself_is_named(charsmap: bytes, said: str) -> None:
    written = unigram(precompiled_charsmap=charsmap)
    with pytest.raises(DamagedFileError, match=said):
        loaded(written.container()).encode("The fox")


STRANGE: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=9),
    st.lists(st.one_of(st.text(max_size=3), st.integers(), st.floats(), st.none()), max_size=3),
    st.just(np.array([[1, 2], [3, 4]])),
    st.just(np.arange(5000, dtype=np.int64) << 40),
    st.just(np.full(5000, np.nan, np.float32)),
    st.just([""] * 5000),
)
ROUND_TRIPS = {
    name: loaded(written.container())
    for name, written in {
        "llama-bpe": byte_level("llama-bpe"),
        "gpt-2": byte_level("gpt-2"),
        "spm": scored(),
        "gemma4": plain_pairs(),
        "hex": hex_bytes(),
    }.items()
}
BASES = [byte_level(), scored(), unigram(), word_pieces(), plain_pairs(), hex_bytes()]


@given(st.sampled_from(BASES), st.data())
def test_any_metadata_gives_ids_or_an_error(base: Written, data: st.DataObject) -> None:
    metadata = base.metadata()
    keys = sorted({*metadata, "tokenizer.ggml.precompiled_charsmap", "tokenizer.ggml.add_space_prefix"})
    changed = data.draw(st.dictionaries(st.sampled_from(keys), STRANGE, min_size=1, max_size=3))
    with contextlib.suppress(RosettaError):  # an answer or a worded error; anything else fails the test
        tokenizer = load_tokenizer(stand_in("gguf", metadata | changed, "llama"))
        for text in ("", "Hello <s> wörld 漢\n"):
            if tokenizer is not None:
                ids = tokenizer.encode(text)
                assert all(0 <= id < tokenizer.size for id in ids)
                tokenizer.decode(ids)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(UsageError, match="character 2 of the prompt"):
        loaded(byte_level().container()).encode("ab\ud800")


@pytest.mark.parametrize("id", [-1, 1 << 40])
def test_an_id_that_is_no_tokens_is_refused(id: int) -> None:
    tokenizer = loaded(byte_level().container())
    for call in (tokenizer.piece, lambda id: tokenizer.decode([id])):
        with pytest.raises(UsageError, match="no token id"):
            call(id)


@pytest.mark.parametrize("written", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
@given(text=st.text().filter(lambda text: "▁" not in text))  # which such vocabularies take for a space
def test_decoding_gives_the_text_back(written: Tokenizer, text: str) -> None:
    assert written.decode(written.encode(text, special=False)) == text


def test_lost_merges_are_a_finding_and_the_text_is_still_cut() -> None:
    """llama.cpp refuses such a file; a comparison has more to say when both sides can be read."""
    metadata = byte_level().metadata()
    del metadata["tokenizer.ggml.merges"]
    tokenizer = loaded(stand_in("gguf", metadata))
    assert [(found.kind, found.key) for found in tokenizer.findings] == [
        ("tokenizer.merges", "tokenizer.ggml.merges")
    ]
    assert len(tokenizer.encode("abc")) == 3
