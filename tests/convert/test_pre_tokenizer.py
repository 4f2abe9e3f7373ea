"""`tokenizer.ggml.pre` comes from what the tokenizer does, whatever the model's architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from fixtures.vocabularies import TRICKY, byte_level
from rosetta.convert.folder_tokenizer import folder_steps, tokenizer_json
from rosetta.convert.vocabulary import pre_tokenizer_of
from rosetta.tokenizer import Tokenizer
from rosetta.tokenizer.byte_alphabet import ALPHABET
from rosetta.tokenizer.embedded import gguf_vocabulary
from rosetta.tokenizer.huggingface import load_folder
from rosetta.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from rosetta.tokenizer.published_cuts import CHAINS, chain_of, name_of, names_alike

LEVEL: dict[str, Any] = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}


def split(expression: str | None) -> dict[str, Any]:
    """Cut by an expression, then spell bytes."""
    cut = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, {**LEVEL, "use_regex": False}]}


# Not the published spelling: the cuts themselves must tell.
OTHERWISE = CHAINS["qwen2"][0].replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?i:'[stmd]|'re|'ve|'ll)")
WAYS = {
    "gpt-2": LEVEL,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, LEVEL]},
    "qwen2": split(CHAINS["qwen2"][0]),
    "llama-bpe": split(CHAINS["llama-bpe"][0]),
    # not the published spelling: the cuts themselves must tell
    "qwen2 spelt otherwise": split(
        CHAINS["qwen2"][0].replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?i:'[stmd]|'re|'ve|'ll)")
    ),
}


MERGES = [("3", "3"), ("33", "3"), ("'", "l"), ("'l", "L"), ("'", "R"), ("'R", "E"), ("=", "="), ("Ċ", "Ċ")]


def folder_of(folder: Path, steps: Any, **model: Any) -> Path:
    """A tokenizer.json of single bytes and a few merges that cuts by these steps."""
    vocab = {character: id for id, character in enumerate(sorted(ALPHABET))}
    for left, right in MERGES:
        vocab.setdefault(left + right, len(vocab))
    backend = Backend(models.BPE(vocab, MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    backend.decoder = decoders.ByteLevel()
    table = json.loads(backend.to_str())
    table |= {"pre_tokenizer": steps, "model": {**table["model"], **model}}
    (folder / "tokenizer.json").write_text(json.dumps(table))
    return folder


@pytest.mark.parametrize("name", WAYS)
def test_the_cuts_tell(tmp_path: Path, name: str) -> None:
    whole = name == "llama-bpe"  # as Llama 3's own file says
    folder = folder_of(tmp_path, WAYS[name], ignore_merges=whole)
    tokenizer = load_folder(folder, "LlamaForCausalLM")
    assert tokenizer is not None
    found, _ = pre_tokenizer_of(tokenizer)
    wanted = name.split()[0]
    assert found in ({"smollm", "starcoder"} if wanted == "smollm" else {wanted})


# What llama.cpp's own expressions cut otherwise than the published ones: marks in cased words, letters before digits
# that are grouped, digits beyond ASCII, a control character, capitals within a word.
OWN_WAY = {
    "tekken": "\u094d\u0301\u0e31",
    "gpt-4o": "\u094d\u0301\u0e31",
    "youtu": "XǅA",
    "kimi-k2": ("lC", "々", "XǅA", "\u0301", "\u094d", "\u0e31"),
    "tiny_aya": ("a1b", "camelCase"),
    "afmoe": ("a1b",),
    "superbpe": "٣",
    "deepseek-coder": "\x85",
    "deepseek-llm": ("\x85", "12", "0", "99", "١"),
}


# llama.cpp keeps marks with their letters for one name of what was published, and not for the others.
MARKS_APART = ("gpt-4o",)


@pytest.mark.parametrize("pre", [name for name in PRE_TOKENIZERS if chain_of(name)])
def test_published_cuts_are_told_by_name_and_written_by_it(tmp_path: Path, pre: str) -> None:
    """The steps that a folder gets where GGUF has the name give a name that cuts alike, and the ids of the library."""
    written = byte_level(pre)
    facts = gguf_vocabulary(written.container())
    assert facts is not None
    steps = folder_steps(facts)
    assert steps is not None
    found = name_of(steps["pre_tokenizer"])
    assert found is not None
    assert found in names_alike(pre)
    if found not in MARKS_APART:
        assert PRE_TOKENIZERS[found].cuts == PRE_TOKENIZERS[pre].cuts
    backend = Backend.from_str(json.dumps(tokenizer_json(facts, steps)))
    ours = Tokenizer(facts)
    for text in TRICKY[:-1]:
        if not any(part in text for part in OWN_WAY.get(found, "")):
            assert backend.encode(text, add_special_tokens=False).ids == ours.encode(text, special=False), (
                text
            )


@pytest.mark.parametrize("whole", [True, False])
def test_words_that_stay_whole_tell_names_of_one_expression_apart(tmp_path: Path, whole: bool) -> None:
    merges = [("l", "l"), ("Ġa", "ll")]  # nothing makes Ġa
    vocab = {c: n for n, c in enumerate([*sorted(ALPHABET), "ll", "Ġa", "Ġall", "Ġwe"])}
    steps = split(CHAINS["llama-bpe"][0])
    folder = folder_of(tmp_path, steps, vocab=vocab, merges=merges, ignore_merges=whole)
    tokenizer = load_folder(folder)
    assert tokenizer is not None
    found, _ = pre_tokenizer_of(tokenizer)
    assert found is not None
    assert PRE_TOKENIZERS[found].ignore_merges == whole


@pytest.mark.parametrize(("whole", "name"), [(True, "granite-embed-multi-97m"), (False, "gpt-4o")])
def test_a_published_cut_that_llamacpp_has_two_ways_of_is_told_by_whether_words_stay_whole(
    tmp_path: Path, whole: bool, name: str
) -> None:
    folder = folder_of(tmp_path, split(CHAINS["gpt-4o"][0]), ignore_merges=whole)
    tokenizer = load_folder(folder)
    assert tokenizer is not None
    assert pre_tokenizer_of(tokenizer)[0] == name
