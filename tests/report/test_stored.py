"""Reports that were written are read again: all of them, later minor versions too, and nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fixtures import reports
from rosetta.errors import RosettaError
from rosetta.report.report import Report
from rosetta.report.stored import read_report


def stored(folder: Path, report: Report, **changes: Any) -> Path:
    path = folder / "report.json"
    path.write_text(json.dumps(json.loads(report.to_json()) | changes), "utf-8")
    return path


@pytest.mark.parametrize("make", [reports.report, reports.drift, reports.dims_swapped])
def test_a_report_comes_back_as_it_was(tmp_path: Path, make: Any) -> None:
    report = make()
    assert read_report(stored(tmp_path, report)).to_json() == report.to_json()


def test_numbers_that_are_not_finite_come_back_as_numbers(tmp_path: Path) -> None:
    report = reports.report(stages=[reports.stage("embedding", "faulty", math.inf)])
    assert read_report(stored(tmp_path, report)).stages[0].max_diff == math.inf


def test_what_a_later_minor_version_adds_is_left_out(tmp_path: Path) -> None:
    report = reports.dims_swapped()
    tool = {"name": "rosetta", "version": "9.0", "colour": "blue"}
    read = read_report(stored(tmp_path, report, schema_version="1.7", added={"a": 1}, tool=tool))
    assert read.findings == report.findings
    assert read.tool.version == "9.0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[1]", "is no report"),
        ('{"schema_version": "2.0"}', "version '2.0'"),
        ('{"schema_version": "1.0"}', "tool: is no valid report: field required"),
        ("\ufffd", "is no JSON"),
    ],
)
def test_what_is_no_report_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, "utf-8")
    with pytest.raises(RosettaError, match=said) as error:
        read_report(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(RosettaError, match="check the path"):
        read_report(tmp_path / "none.json")
    (tmp_path / "r.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RosettaError, match="byte 0: is not UTF-8"):
        read_report(tmp_path / "r.json")
