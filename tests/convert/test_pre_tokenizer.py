"""`tokenizer.ggml.pre` comes from what the tokenizer does, whatever the model's architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from rosetta.convert.vocabulary import pre_tokenizer_of
from rosetta.tokenizer.byte_alphabet import ALPHABET
from rosetta.tokenizer.huggingface import expression_of, load_folder

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
OTHERWISE = str(expression_of("qwen2")).replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?i:'[stmd]|'re|'ve|'ll)")
WAYS = {
    "gpt-2": LEVEL,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, LEVEL]},
    "qwen2": split(expression_of("qwen2")),
    "llama-bpe": split(expression_of("llama-bpe")),
    # not the published spelling: the cuts themselves must tell
    "qwen2 spelt otherwise": split(
        str(expression_of("qwen2")).replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?i:'[stmd]|'re|'ve|'ll)")
    ),
}


MERGES = [("3", "3"), ("33", "3"), ("'", "l"), ("'l", "L"), ("'", "R"), ("'R", "E"), ("=", "="), ("Ċ", "Ċ")]


@pytest.mark.parametrize("name", WAYS)
def test_the_cuts_tell(tmp_path: Path, name: str) -> None:
    vocab = {character: id for id, character in enumerate(sorted(ALPHABET))}
    merges: list[tuple[str, str]] = []
    for left, right in (
        ("3", "3"),
        ("33", "3"),
        ("'", "l"),
        ("'l", "L"),
        ("'", "R"),
        ("'R", "E"),
        ("=", "="),
        ("Ċ", "Ċ"),
    ):
        vocab.setdefault(left + right, len(vocab))
        merges.append((left, right))
    backend = Backend(models.BPE(vocab, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    backend.decoder = decoders.ByteLevel()
    table = {**json.loads(backend.to_str()), "pre_tokenizer": WAYS[name]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(table))
    tokenizer = load_folder(tmp_path, "LlamaForCausalLM")
    assert tokenizer is not None
    found, _ = pre_tokenizer_of(tokenizer)
    wanted = name.split()[0]
    assert found in ({"smollm", "starcoder"} if wanted == "smollm" else {wanted})
