"""`rosetta parity`: exit codes, the text that people read, the JSON that keeps to its schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from fixtures import faults, pair
from rosetta.cli import run


@pytest.fixture(scope="module")
def wrong_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("parity")
    left, right = pair(
        folder, "qwen2", "apr:F16", "gguf:F16", faults.scaled("blk.0.ffn_up.weight", 2.0), side="left"
    )
    return str(left), str(right)


def schema(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert run(["schema", "parity"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_fault_exits_1_where_a_match_is_asserted(
    wrong_pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["parity", *wrong_pair, "--generate", "8", "--assert-match", "--json", "-"]) == 1
    said = capsys.readouterr()
    report = json.loads(said.out)
    jsonschema.validate(report, schema(capsys))
    assert report["verdict"] == "fault"
    assert report["assertion"] == {"asserted": True, "passed": False, "exit_code": 1, "fail_on": []}
    assert set(report["summary"]) == {"match", "near_tie", "fault"}
    assert {cell["class"] for cell in report["cells"]} <= {"match", "fault"}
    assert "DIAGNOSIS: " + wrong_pair[0] + ": value.scaled at layers.0.ffn_up" in said.err
    assert said.err.splitlines()[-1].startswith("FAILED: ")


def test_nothing_asserted_exits_0_and_quietly_says_one_line(
    wrong_pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["parity", *wrong_pair, "--generate", "2", "-q"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_one_that_says_the_same_passes(
    wrong_pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["parity", wrong_pair[1], "--generate", "2", "--assert-match"]) == 0
    assert (
        capsys.readouterr().out.splitlines()[-1] == "MATCHED: token by token is all at once at 4 of 4 prompts"
    )


def test_an_error_exits_2_and_leaves_no_report_of_yesterday(
    wrong_pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "parity.json"
    target.write_text("yesterday's")
    assert run(["parity", wrong_pair[0], str(tmp_path / "none.gguf"), "--json", str(target)]) == 2
    report = json.loads(target.read_text())
    jsonschema.validate(report, schema(capsys))
    assert report["verdict"] == "error"
    assert "no such file" in report["error"]


def test_prompts_come_from_a_file(
    wrong_pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text('2+2=\n{"id": "sum", "prompt": "1+1=", "expected_text": "2"}\n')
    assert run(["parity", wrong_pair[1], "--prompts", str(prompts), "--generate", "2", "--assert-match"]) == 1
    text = capsys.readouterr().out
    assert '=== line 1: "2+2=" ===' in text
    assert '  expected: "2"' in text
    assert run(["parity", wrong_pair[1], "--prompts", str(tmp_path / "none")]) == 2
