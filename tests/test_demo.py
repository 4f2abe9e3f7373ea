"""The demo's pair: whole, but for the one fault that is planted, which is found and proven."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

import rosetta
from rosetta.demo import FAULTS, write_demo
from rosetta.errors import RosettaError


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_proven_and_the_only_one(tmp_path: Path, fault: str) -> None:
    whole, broken = write_demo(tmp_path / "new" / "folder", fault)
    report = rosetta.compare(broken, whole)
    assert {(finding.kind, finding.status) for finding in report.findings} == {
        (FAULTS[fault].kind, "confirmed")
    }
    assert {finding.side for finding in report.findings} == {"left"}


def test_the_whole_file_is_one_that_others_read(tmp_path: Path) -> None:
    whole, _ = write_demo(tmp_path)
    assert len(GGUFReader(whole).tensors) == 39
    assert rosetta.compare(whole, whole).verdict == "match"


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RosettaError, match="there are transposed, scaled"):
        write_demo(tmp_path, "nonsense")
    (tmp_path / "file").write_text("")
    with pytest.raises(RosettaError, match="cannot be made"):
        write_demo(tmp_path / "file" / "folder")


def test_a_demo_replaces_a_demo_and_nothing_else(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo")
    write_demo(tmp_path / "demo", "scaled")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.gguf").write_bytes(b"mine")
    with pytest.raises(RosettaError, match="is not empty, and no demo"):
        write_demo(tmp_path / "mine")
    assert (tmp_path / "mine" / "model.gguf").read_bytes() == b"mine"


def test_the_command_shows_the_diagnosis_and_leaves_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rosetta import cli

    monkeypatch.chdir(tmp_path)
    assert cli.run(["demo", "--fault", "theta"]) == 0
    out = capsys.readouterr().out
    assert "$ rosetta rosetta-demo/broken.gguf rosetta-demo/model.gguf" in out
    assert "DIAGNOSIS: LEFT GGUF rope.freq_base is 500000, the reference computes with 10000" in out
    assert (tmp_path / "rosetta-demo" / "report.html").stat().st_size > 100_000


def test_a_demo_that_finds_nothing_exits_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fixtures import reports
    from rosetta import cli

    compare: Callable[..., Any] = lambda *_: reports.report()  # noqa: E731
    monkeypatch.setattr("rosetta.api.compare", compare)
    assert cli.run(["demo", str(tmp_path)]) == 1
