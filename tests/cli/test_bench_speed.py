"""`rosetta bench speed` from the command line, whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.sweep
def test_a_tiny_pair_is_written_compared_and_timed(rosetta: Any, tmp_path: Path) -> None:
    target, folder = tmp_path / "speed.json", tmp_path / "pair"
    arguments = ("--shape", "tiny", "--runs", 1, "--no-peers", "--unquantised", "--json", target)
    done = rosetta("bench", "speed", *arguments, "--folder", folder, "--keep")
    assert done.code == 0, done.err
    assert "| late fault" in done.out
    document = json.loads(target.read_text())
    codes = {row["name"]: row["runs"][0]["code"] for row in document["rows"]}
    expected = {"read both files": 0, "forward pass": 0, "clean": 0, "early fault": 1, "late fault": 1}
    expected |= {"wrong pair": 1, "wrong pair, --stop-at-first": 1}
    assert codes == expected | {"BF16 against Q4_K_M": 0}
    assert {path.name for path in folder.iterdir()} == {"tiny.apr", "tiny.gguf"}


@pytest.mark.sweep
@pytest.mark.requires_llamacpp
@pytest.mark.requires_transformers
def test_runtimes_are_timed_as_sides_and_beside(rosetta: Any, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    target = tmp_path / "speed.json"
    done = rosetta("bench", "speed", "--shape", "tiny", "--runs", 1, "--json", target)
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in json.loads(target.read_text())["rows"]}
    for name in ("llama.cpp", "transformers", "gguf × llamacpp:", "transformers: × llamacpp:"):
        assert [run["code"] for run in rows[name]["runs"]] == [0], name
    assert "| gguf × llamacpp:" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shape", "gpt-5"), "no shape 'gpt-5': there are"),
        (("--keep",), "--keep keeps one pair in --folder DIR"),
        (("--unquantised", "--scaling"), "--scaling has no --unquantised"),
        (("--keep", "--scaling", "--folder", "x"), "--keep keeps one pair in --folder DIR"),
        (("--folder", "nowhere"), "nowhere: is no folder: make it first"),
        (("--shape", "tiny", "--tokens", "5000"), "tiny has a context of 4096 tokens"),
        (("--json", "nowhere/x.json"), "its folder does not exist"),
        (("--runs", "0"), "Invalid value for '--runs'"),
    ],
)
def test_usage_errors(rosetta: Any, arguments: tuple[str, ...], message: str) -> None:
    done = rosetta("bench", "speed", *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
