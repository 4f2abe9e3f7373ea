"""The command line of `rosetta convert`: options, exit codes, what it prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures import build, model_spec
from rosetta.cli import convert

Run = Callable[..., Any]
SPEC = model_spec("qwen2")


def test_it_explains_itself(rosetta: Run) -> None:
    result = rosetta("convert", "--help")
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 80
    for option in ("--dtype", "--split-max-size", "--force", "--no-verify", "--prompt", "-q"):
        assert option in result.out.replace(",", " ").replace("[", " ").replace("]", " ").split(), option


def test_what_was_written_and_the_verdict_are_printed(rosetta: Run, tmp_path: Path) -> None:
    source = build(tmp_path / "a", SPEC, "hf:F16")
    result = rosetta("convert", source, tmp_path / "out.gguf")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == f"[ROSETTA] {source} (HF, qwen2) -> {tmp_path / 'out.gguf'}"
    assert lines[-1].startswith("MATCHED: ")
    quiet = rosetta("convert", source, tmp_path / "again.gguf", "-q")
    assert quiet.out.splitlines() == [lines[-1]]


def test_what_exists_is_refused_in_one_sentence(rosetta: Run, tmp_path: Path) -> None:
    source = build(tmp_path / "a", SPEC, "hf:F16")
    (tmp_path / "out.gguf").write_bytes(b"")
    result = rosetta("convert", source, tmp_path / "out.gguf")
    assert result.code == 2
    assert "exists already, and nothing is overwritten: name another, or say --force" in result.err


@pytest.mark.parametrize(
    ("size", "nbytes"), [("700", 700), ("30k", 30_000), ("2M", 2 * 10**6), ("1G", 10**9), ("0M", 0)]
)
def test_a_size_is_what_llamacpp_takes_it_for(size: str, nbytes: int) -> None:
    assert convert._bytes(size) == nbytes


@pytest.mark.parametrize("size", ["2T", "-1G", "2.5G", "M"])
def test_a_size_is_a_number_of_bytes_or_of_a_unit(rosetta: Run, tmp_path: Path, size: str) -> None:
    result = rosetta("convert", tmp_path, tmp_path / "out.gguf", f"--split-max-size={size}")
    assert result.code == 2
    assert "--split-max-size is a number of bytes, or of K, M or G" in result.err


def test_a_model_does_not_go_to_stdout(rosetta: Run, tmp_path: Path) -> None:
    result = rosetta("convert", tmp_path, "-")
    assert result.code == 2
    assert "cannot go to stdout" in result.err


def test_a_missing_source_is_said(rosetta: Run, tmp_path: Path) -> None:
    result = rosetta("convert", tmp_path / "none", tmp_path / "out.gguf")
    assert result.code == 2
    assert "none: no such file" in result.err
