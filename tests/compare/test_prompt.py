"""Which tokens both sides run, and what is said where a side has no tokenizer or another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from fixtures import build, contents, pair
from fixtures.comparing import compared_files, tiny
from fixtures.contents import FileContents
from fixtures.tokenizer import vocabulary
from fixtures.writing import write
from rosetta.compare.options import Options
from rosetta.compare.prompt import tokenize
from rosetta.errors import UsageError
from rosetta.model import Model, open_model

TEXT = "The answer to 2+2= is 4"


def model(tmp_path: Path, operand: str, edit: Any = lambda file: file) -> Model:
    file = edit(contents(tiny("llama", layers=1), operand))
    path = tmp_path / f"model-{operand.split(':')[0]}"
    path = path if file.container == "hf" else path.with_suffix(f".{file.container}")
    tmp_path.mkdir(exist_ok=True)
    write(file, path)
    return open_model(path)


def without_tokenizer(file: FileContents) -> FileContents:
    kept = {key: value for key, value in file.metadata.items() if not key.startswith("tokenizer.")}
    if file.container == "gguf":
        kept["llama.vocab_size"] = file.spec.vocab
    return replace(file, metadata=kept, files={} if file.container == "hf" else file.files)


def without_first_merge(file: FileContents) -> FileContents:
    key = "tokenizer.ggml.merges" if file.container == "gguf" else "tokenizer.merges"
    return replace(file, metadata=file.metadata | {key: file.metadata[key][1:]})


def expected(text: str) -> list[int]:
    return list(Tokenizer.from_str(vocabulary().json).encode(text).ids)


@pytest.mark.parametrize("left", ["apr:F16", "gguf:F16", "hf:F16", "apr-gguf:F16"])
def test_each_side_tokenizes_by_its_own_tokenizer(tmp_path: Path, left: str) -> None:
    found = tokenize(model(tmp_path / "a", left), model(tmp_path / "b", "gguf:F16"), Options(prompt=TEXT))
    assert found.diff.match
    assert found.diff.left == found.diff.right == found.run == expected(TEXT)
    assert found.notes == []


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("operand", ["apr:F16", "gguf:F16", "hf:F16"])
def test_side_without_a_tokenizer_takes_the_others_and_says_so(
    tmp_path: Path, side: str, operand: str
) -> None:
    bare = model(tmp_path / "bare", operand, without_tokenizer)
    full = model(tmp_path / "full", "gguf:F16")
    sides = (bare, full) if side == "left" else (full, bare)
    found = tokenize(*sides, Options(prompt=TEXT))
    assert found.run == expected(TEXT)
    (note,) = found.notes
    assert f"the {'right' if side == 'left' else 'left'} side's is used" in note
    assert bare.container.path.name in note


def test_without_any_tokenizer_ids_must_be_given(tmp_path: Path) -> None:
    bare = [model(tmp_path / operand, operand, without_tokenizer) for operand in ("apr:F16", "gguf:F16")]
    with pytest.raises(UsageError, match="--tokens"):
        tokenize(*bare, Options(prompt=TEXT))
    found = tokenize(*bare, Options(tokens=(3, 1, 2)))
    assert (found.run, found.diff.match) == ([3, 1, 2], True)


@pytest.mark.parametrize("reference", ["left", "right"])
def test_different_ids_are_a_divergence_and_the_references_are_run(tmp_path: Path, reference: Any) -> None:
    left = model(tmp_path / "a", "apr:F16", without_first_merge)
    right = model(tmp_path / "b", "gguf:F16")
    found = tokenize(left, right, Options(prompt=TEXT, reference=reference))
    assert not found.diff.match
    first = found.diff.first_mismatch
    assert first is not None
    assert found.diff.left[:first] == found.diff.right[:first]
    assert found.diff.left[first : first + 1] != found.diff.right[first : first + 1]
    assert found.run == (found.diff.left if reference == "left" else found.diff.right)
    report = compared_files(
        left.container.path,
        right.container.path,
        prompt=TEXT,
        tokens=None,
        reference=reference,
        diagnose=False,
    )
    assert report.verdict == "divergent"
    assert report.first_divergence is not None
    assert (report.first_divergence.name, report.first_divergence.token) == ("tokens", first)
    assert {stage.status for stage in report.stages[1:]} == {"ok"}, "both sides ran the same ids"


@pytest.mark.parametrize("ids", [(1 << 40,), (384,), (5, -1)])
def test_ids_that_no_embedding_has_are_refused(tmp_path: Path, ids: tuple[int, ...]) -> None:
    side = model(tmp_path, "gguf:F16")
    with pytest.raises(UsageError, match="token id"):
        tokenize(side, side, Options(tokens=ids))


@pytest.mark.parametrize("options", [Options(prompt=""), Options(tokens=())])
def test_no_tokens_are_refused(tmp_path: Path, options: Options) -> None:
    side = model(tmp_path, "gguf:F16")
    with pytest.raises(UsageError, match="no tokens"):
        tokenize(side, side, options)


def test_more_tokens_than_positions_are_the_prompts_fault(tmp_path: Path) -> None:
    """A clean pair of GPT-2 would be called divergent: neither side can compute its embedding."""
    paths = pair(tmp_path, tiny("gpt2", layers=1, context=16), "apr:F16", "gguf:F16")
    with pytest.raises(UsageError, match="the prompt has 17 tokens, and the model positions for 16: give a"):
        compared_files(*paths, tokens=range(17))
    assert compared_files(*paths, tokens=range(16)).verdict == "match"


def test_a_table_of_positions_that_is_short_on_one_side_only_is_that_files_fault(tmp_path: Path) -> None:
    short = build(tmp_path, tiny("gpt2", layers=1, context=16), "apr:F16")
    whole = build(tmp_path, tiny("gpt2", layers=1, context=32), "gguf:F16")
    assert compared_files(short, whole, tokens=range(17)).verdict == "divergent"
