"""`rosetta report`: stored reports again, in any form; `--github` of both commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures import reports
from fixtures.ci_formats import check_code_quality, check_gauges, check_junit, check_sarif

Run = Callable[..., Any]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    (tmp_path / "clean.json").write_text(reports.report().to_json(), "utf-8")
    (tmp_path / "broken.json").write_text(reports.dims_swapped().to_json(), "utf-8")
    return tmp_path


def test_the_text_is_the_comparisons_own(rosetta: Run, comparison: Any, stored: Path) -> None:
    comparison.report = reports.report()
    assert rosetta("report", stored / "clean.json").out == rosetta("a", "b").out


def test_every_form_is_written_from_a_stored_report(rosetta: Run, stored: Path) -> None:
    forms = [f"--{name}={stored / name}" for name in ("junit", "sarif", "codequality", "openmetrics", "json")]
    assert rosetta("report", stored / "broken.json", "-q", *forms).code == 0
    check_junit((stored / "junit").read_text("utf-8"))
    check_sarif(json.loads((stored / "sarif").read_text("utf-8")))
    check_code_quality(json.loads((stored / "codequality").read_text("utf-8")))
    check_gauges((stored / "openmetrics").read_text("utf-8"))
    assert (stored / "json").read_text("utf-8") == (stored / "broken.json").read_text("utf-8")


def test_several_reports_are_a_verdict_each_and_a_file_a_form(rosetta: Run, stored: Path) -> None:
    result = rosetta("report", stored / "clean.json", stored / "broken.json", "--junit", stored / "all.xml")
    assert [line.partition(":")[0] for line in result.out.splitlines()] == ["clean", "broken"]
    assert len(check_junit((stored / "all.xml").read_text("utf-8"))) == 2


def test_a_form_that_holds_one_report_refuses_several(rosetta: Run, stored: Path) -> None:
    result = rosetta("report", stored / "clean.json", stored / "broken.json", "--json", stored / "all.json")
    assert result.code == 2
    assert "--json holds one report, and 2 are given" in result.err


def test_what_is_no_report_is_one_line_and_exit_2(rosetta: Run, stored: Path) -> None:
    (stored / "no.json").write_text("{}", "utf-8")
    result = rosetta("report", stored / "no.json")
    assert result.code == 2
    assert result.err.count("\n") == 1


def test_actions_are_told_by_themselves_and_not_elsewhere(
    rosetta: Run, comparison: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison.report = reports.dims_swapped()
    assert "::error" not in rosetta("a", "b").out
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert "::error file=model.apr" in rosetta("a", "b").out
    assert "::error file=model.apr" in rosetta("a", "b").out  # another command of the step adds to it
    assert (tmp_path / "summary.md").read_text("utf-8").count("### ❌") == 2
    assert "::error" not in rosetta("a", "b", "--no-github").out


def test_with_the_report_on_stdout_annotations_go_to_stderr(rosetta: Run, comparison: Any) -> None:
    comparison.report = reports.dims_swapped()
    result = rosetta("a", "b", "--github", "--json", "-")
    json.loads(result.out)
    assert "::error file=model.apr" in result.err


def test_an_error_is_annotated_too(rosetta: Run, tmp_path: Path) -> None:
    result = rosetta(tmp_path / "none.apr", tmp_path / "none.gguf", "--github")
    assert result.code == 2
    assert "::error" in result.out


@pytest.mark.parametrize(
    ("options", "prompt", "ids"),
    [
        ([], "2+2=", []),
        (["--prompt", "a b"], "a b", []),
        (["--tokens", "3,5"], None, [3, 5]),
        (["--prompt", "auto"], None, []),
    ],
)
def test_the_report_of_an_error_says_what_was_to_be_run(
    rosetta: Run, tmp_path: Path, options: list[str], prompt: str | None, ids: list[int]
) -> None:
    result = rosetta(tmp_path / "none.apr", tmp_path / "none.gguf", "--json", "-", *options)
    written = json.loads(result.out)
    assert (written["verdict"], written["prompt"], written["tokens"]["left"]) == ("error", prompt, ids)


def test_a_summary_that_cannot_be_written_is_said(
    rosetta: Run, comparison: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    result = rosetta("a", "b", "--github")
    assert result.code == 2
    assert "the step's summary cannot be written" in result.err
