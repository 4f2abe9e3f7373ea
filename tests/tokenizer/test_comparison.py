"""What differs between two vocabularies is told, and what legitimately differs is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from fixtures.bench.speed_pair import write_pair
from fixtures.bench.speed_shapes import shape_of
from fixtures.vocabularies import CONTROL, NORMAL, UNUSED, USER_DEFINED, Written, byte_level, scored
from rosetta.containers import open_container
from rosetta.tokenizer import Vocabulary, compare_vocabularies, load_tokenizer, type_note
from rosetta.tokenizer.comparison import mended_types
from rosetta.tokenizer.encoders import Codec

SMALL = byte_level("qwen2")
MERGES = list(SMALL.merges or ())
SWAPPED = MERGES[1::-1] + MERGES[2:]
BOS, EOS = SMALL.keys["bos_token_id"], SMALL.keys["eos_token_id"]


def facts(written: Written) -> Vocabulary:
    tokenizer = load_tokenizer(written.container())
    assert tokenizer is not None
    return tokenizer.facts


def changed_token(written: Written, index: int, token: str) -> Written:
    tokens = list(written.tokens)
    tokens[index] = token
    return replace(written, tokens=tokens)


def with_keys(keys: dict[str, Any]) -> Written:
    return replace(SMALL, keys=SMALL.keys | keys)


@pytest.mark.parametrize(
    ("other", "kind", "key", "left", "right"),
    [
        (changed_token(SMALL, 300, "other"), "tokenizer.vocabulary", "tokens", 1, 1),
        (replace(SMALL, merges=MERGES[1:]), "tokenizer.merges", "merges", len(MERGES), len(MERGES) - 1),
        (replace(SMALL, merges=SWAPPED), "tokenizer.merges", "merges", len(MERGES), len(MERGES)),
        (replace(SMALL, pre="gpt-2"), "tokenizer.pre_tokenizer", "pre", "qwen2", "gpt-2"),
        (with_keys({"bos_token_id": 7}), "tokenizer.bos", "bos_token_id", BOS, 7),
        (with_keys({"eos_token_id": 7}), "tokenizer.special_tokens", "eos_token_id", EOS, 7),
        (with_keys({"add_bos_token": True}), "tokenizer.bos", "add_bos", False, True),
        (with_keys({"add_eos_token": True}), "tokenizer.special_tokens", "add_eos", False, True),
        (replace(SMALL, types=[CONTROL, *SMALL.types[1:]]), "tokenizer.special_tokens", "types", 6, 7),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_difference_is_told(other: Written, kind: str, key: str, left: Any, right: Any) -> None:
    (difference,) = compare_vocabularies(facts(SMALL), facts(other))
    assert (difference.kind, difference.key, difference.left, difference.right) == (kind, key, left, right)
    (reverse,) = compare_vocabularies(facts(other), facts(SMALL))
    assert (reverse.left, reverse.right) == (right, left)


def test_examples_show_the_first_places() -> None:
    (tokens,) = compare_vocabularies(facts(SMALL), facts(changed_token(SMALL, 300, "other")))
    assert tokens.examples == ((300, SMALL.tokens[300], "other"),)
    (merges,) = compare_vocabularies(facts(SMALL), facts(replace(SMALL, merges=[*MERGES[1:], "a zz"])))
    assert set(merges.examples) == {(0, MERGES[0], None), (len(MERGES) - 1, None, "a zz")}
    assert "1 merges are only on the left, 1 only on the right" in merges.message


def test_a_longer_vocabulary_differs_in_size() -> None:
    longer = replace(SMALL, tokens=[*SMALL.tokens, "real"], types=[*SMALL.types, NORMAL])
    (difference,) = compare_vocabularies(facts(SMALL), facts(longer))
    assert (difference.kind, difference.key) == ("tokenizer.vocabulary", "size")
    assert difference.right == len(longer.tokens)


@pytest.mark.parametrize("padding", [["[PAD1]", "[PAD2]"], ["<unk>x", "spare"]])
def test_padding_is_no_difference(padding: list[str]) -> None:
    padded = replace(SMALL, tokens=[*SMALL.tokens, *padding], types=[*SMALL.types, UNUSED, UNUSED])
    assert compare_vocabularies(facts(SMALL), facts(padded)) == []


@pytest.mark.parametrize("name", ["deepseek-r1-qwen", "stablelm2", "megrez"])
def test_two_names_of_one_pre_tokenizer_are_no_difference(name: str) -> None:
    assert compare_vocabularies(facts(SMALL), facts(byte_level(name))) == []


def test_equal_vocabularies_have_no_difference() -> None:
    for written in (SMALL, scored()):
        assert compare_vocabularies(facts(written), facts(written)) == []


def flagged(folder: Path, tokens: dict[str, bool], keys: dict[str, str]) -> Vocabulary:
    """The facts of a folder whose added tokens are special, or not."""
    backend = Tokenizer(
        models.BPE({"a": 0, "<unk>": 1}, [], unk_token="<unk>", byte_fallback="<s>" in keys.values())
    )
    backend.add_tokens([AddedToken(token, special=special) for token, special in tokens.items()])
    backend.pre_tokenizer = None if "<s>" in keys.values() else pre_tokenizers.ByteLevel()
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(keys))
    loaded = load_tokenizer(
        SimpleNamespace(kind="huggingface", path=folder, metadata={}, architecture="llama")
    )
    assert loaded is not None
    return loaded.facts


@pytest.mark.parametrize(
    ("token", "special", "keys", "kind", "differs"),
    [
        # conversion/base.py, does_token_look_special
        ("<|tool|>", False, {}, CONTROL, False),
        ("<tool>", False, {}, CONTROL, True),
        ("<tool>", True, {}, USER_DEFINED, True),
        # gguf-py, LlamaHfVocab: only those that have a role are control tokens
        ("<tool>", True, {"bos_token": "<s>"}, USER_DEFINED, False),
        ("<s>", True, {"bos_token": "<s>"}, USER_DEFINED, True),
        # conversion/gemma.py
        ("<|channel>", True, {}, USER_DEFINED, False),
    ],
)
def test_types_that_converters_give_either_way_are_a_note(
    tmp_path: Path, token: str, special: bool, keys: dict[str, str], kind: int, differs: bool
) -> None:
    folder = flagged(tmp_path, {token: special}, keys)
    at = folder.tokens.index(token)
    file = replace(
        folder,
        kind="bpe",
        types=np.where(np.arange(len(folder.tokens)) == at, kind, folder.types),
        typed_either_way=frozenset(),
    )
    for left, right in ((folder, file), (file, folder)):
        assert bool(compare_vocabularies(left, right)) == differs
        assert (type_note(left, right) is None) == differs


def test_types_are_mended_where_they_differ_and_nowhere_else(tmp_path: Path) -> None:
    """A folder calls `<|tool|>` no special token, and has no padding."""
    folder = flagged(tmp_path, {"<|tool|>": False, "<tool>": True}, {})
    right = [*folder.types[:2].tolist(), CONTROL, CONTROL, UNUSED]
    tokens = [*folder.tokens, "[PAD4]"]
    file = replace(folder, kind="bpe", tokens=tokens, typed_either_way=frozenset())
    lost = replace(file, types=np.array([*right[:3], USER_DEFINED, UNUSED], np.int32))
    assert mended_types(lost, folder).tolist() == right
    lost = replace(file, types=np.array([*right[:2], NORMAL, NORMAL, UNUSED], np.int32))
    assert mended_types(lost, folder).tolist() == right


TEXTS = ("2+2=", "Hello  world\n\n", "naïve <|endoftext|> 12345")


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        (SMALL, True),
        (with_keys({"bos_token_id": 7, "add_bos_token": True}), True),
        (replace(SMALL, types=[CONTROL, *SMALL.types[1:]]), True),
        (replace(SMALL, merges=SWAPPED), False),
        (replace(SMALL, pre="gpt-2"), False),
        (changed_token(SMALL, 300, "other"), False),
    ],
)
def test_an_encoder_is_shared_where_it_is_made_of_the_same_facts(other: Written, shared: bool) -> None:
    first = load_tokenizer(SMALL.container())
    second, alone = load_tokenizer(other.container(), first), load_tokenizer(other.container())
    assert first is not None
    assert second is not None
    assert alone is not None
    assert isinstance(first.codec, Codec)
    assert isinstance(second.codec, Codec)
    assert (second.codec.encoder is first.codec.encoder) == shared
    for text in TEXTS:
        for special in (True, False):
            assert second.encode(text, special) == alone.encode(text, special), (
                "shared or not, it is its own file's"
            )
            assert second.decode(second.encode(text, special)) == alone.decode(alone.encode(text, special))


def test_an_apr_and_a_gguf_of_one_model_share_their_encoder(tmp_path: Path) -> None:
    pair = write_pair(shape_of("tiny"), tmp_path)
    first = load_tokenizer(open_container(pair.apr))
    second = load_tokenizer(open_container(pair.gguf), first)
    assert first is not None
    assert second is not None
    assert isinstance(first.codec, Codec)
    assert isinstance(second.codec, Codec)
    assert second.codec.encoder is first.codec.encoder
