"""llama.cpp's own vocabularies, texts and expected ids."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from rosetta.tokenizer import open_tokenizer

pytestmark = pytest.mark.requires_samples
VOCABULARIES = ("gpt-2", "llama-bpe", "llama-spm", "qwen2")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_expected_ids(samples: Path, name: str) -> None:
    file = samples / "vocabs" / f"ggml-vocab-{name}.gguf"
    texts = file.with_suffix(".gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = file.with_suffix(".gguf.out").read_text("utf-8").split("\n")
    assert len(texts) > 40
    tokenizer = open_tokenizer(file)
    for text, line in zip(texts, lines, strict=False):
        assert tokenizer.encode(text, special=False) == [int(id) for id in line.split()], text


def test_a_large_vocabulary_loads_in_seconds(samples: Path) -> None:
    start = time.process_time()
    tokenizer = open_tokenizer(samples / "vocabs" / "ggml-vocab-llama-bpe.gguf")
    assert (tokenizer.size, len(tokenizer.facts.merges)) == (128_256, 280_147)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("model", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("file", ["hf", "model-f16.gguf", "from-hf-f16.apr", "from-gguf-f16.apr"])
def test_every_container_of_a_model_gives_the_same_ids(samples: Path, model: str, file: str) -> None:
    folder = samples / "models" / model
    tokenizer = open_tokenizer(folder / file)
    for case in json.loads((folder / "expected.json").read_text("utf-8")):
        assert tokenizer.encode(case["prompt"]) == case["ids"]
