"""Runs command lines in this process; stands in for the comparison where only the command line is tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from fixtures import reports
from rosetta import cli
from rosetta.cli.compare import Asked
from rosetta.compare.options import Options
from rosetta.report.report import Report


@dataclass
class Result:
    """What a command line gave."""

    code: int
    out: str
    err: str


@pytest.fixture
def rosetta(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run one command line."""

    def run(*arguments: object) -> Result:
        code = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@dataclass
class Comparison:
    """Stands in for the comparison: gives a report, remembers what it was asked."""

    report: Report = field(default_factory=reports.report)
    calls: list[tuple[str, str, Options]] = field(default_factory=list)
    raises: BaseException | None = None
    asked: Asked = field(default_factory=lambda: Asked(Options()))

    def __call__(self, left: str, right: str, asked: Asked, listener: Any) -> Report:
        self.calls.append((left, right, asked.options))
        self.asked = asked
        if self.raises is not None:
            raise self.raises
        return self.report

    @property
    def options(self) -> Options:
        """What the last call was asked."""
        return self.calls[-1][2]


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """The comparison that the command line calls."""
    stand_in = Comparison()
    monkeypatch.setattr("rosetta.cli.compare._report", stand_in)
    return stand_in
