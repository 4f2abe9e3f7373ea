"""Rows that one vocabulary has and the other has not: what is said of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures import faults, pair
from fixtures.comparing import tiny
from fixtures.contents import FileContents
from rosetta.compare.options import Options
from rosetta.compare.padding import without_padding
from rosetta.compare.prompt import tokenize
from rosetta.model import Model, open_model


def longer(file: FileContents) -> FileContents:
    """Sixteen rows behind the vocabulary, and a config that counts them."""
    for name in ("token_embd.weight", "output.weight"):
        if name in file.tensors:
            file = file.with_values(name, np.pad(file.values(name), ((0, 16), (0, 0))))
    return faults.config_set("vocab_size", file.spec.vocab + 16)(file)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Model, Model]:
    left, right = pair(tmp_path, tiny("llama", layers=1), "hf:F32", "gguf:F32", longer)
    return open_model(left), open_model(right)


def test_rows_that_no_tokenizer_has_a_token_for_are_padding(two: tuple[Model, Model]) -> None:
    tokenized = tokenize(*two, Options(tokens=(5, 6)))
    _, [note] = without_padding({"left": two[0], "right": two[1]}, tokenized)
    assert note.endswith("16 rows of padding behind the vocabulary are left out")


def test_without_a_tokenizer_nobody_says_that_they_are_padding(two: tuple[Model, Model]) -> None:
    tokenized = replace(tokenize(*two, Options(tokens=(5, 6))), tokenizers={"left": None, "right": None})
    models, [note] = without_padding({"left": two[0], "right": two[1]}, tokenized)
    assert models["left"]["vocab_size"] == models["right"]["vocab_size"]
    assert note.endswith(
        "that the other side lacks, and no tokenizer says whether they are padding, are left out"
    )
