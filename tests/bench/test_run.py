"""A case's score falls with everything that can go wrong."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rosetta.bench import run
from rosetta.bench.case import Case, Shown
from rosetta.bench.draw import draw_case
from rosetta.bench.run import run_case, says
from rosetta.diagnose.hypotheses import all_hypotheses
from rosetta.errors import DamagedFileError
from rosetta.report.build import build_report
from rosetta.report.report import Report


def test_a_found_fault_scores_in_every_column() -> None:
    score = run_case(draw_case("layout.rope_order", 0))
    assert (score.detected, score.located, score.named, score.confirmed, score.accused) == (
        True,
        True,
        True,
        True,
        (),
    )
    assert score.perfect
    assert score.seconds > 0


def test_without_hypotheses_it_is_still_located_and_no_longer_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rosetta.diagnose.search.all_hypotheses", lambda: ())
    score = run_case(draw_case("layout.rope_order", 0))
    assert (score.detected, score.located) == (True, True)
    assert (score.named, score.confirmed, score.perfect) == (False, False, False)


def test_one_hypothesis_less_misses_its_own_kind_only(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = tuple(h for h in all_hypotheses() if "rope_order" not in h.__module__)
    monkeypatch.setattr("rosetta.diagnose.search.all_hypotheses", lambda: fewer)
    assert not run_case(draw_case("layout.rope_order", 0)).named
    assert run_case(draw_case("config.rope_theta", 0)).named


def test_a_clean_pair_accuses_nothing() -> None:
    score = run_case(draw_case("clean", 0))
    assert score.perfect
    assert not score.accused


def test_an_accusation_of_a_clean_pair_counts_as_false() -> None:
    planted = shown_case()
    guilty = run_case(planted)
    clean = replace(draw_case("clean", 1), subject=planted.subject)
    report = _report_of(planted)
    score = run.scored(clean, report, {})
    assert guilty.perfect
    assert not score.perfect
    assert len(score.accused) == len(report.findings) > 0


def test_an_accusation_beside_the_planted_one_counts_as_false() -> None:
    planted = shown_case()
    report = _report_of(planted)
    (finding,) = report.findings
    other = finding.model_copy(update={"tensor": "blk.0.attn_norm.weight"})
    score = run.scored(planted, report.model_copy(update={"findings": [finding, other]}), {})
    assert score.named
    assert len(score.accused) == 1
    assert not score.perfect


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "value.offset"},
        {"tensor": "blk.0.ffn_gate.weight"},
        {"side": "other"},
        {"kind": "unexplained"},
    ],
)
def test_a_finding_of_another_kind_tensor_or_side_does_not_count(change: dict[str, str]) -> None:
    case = shown_case()
    (finding,) = _report_of(case).findings
    (cause,) = case.causes
    assert says(finding, cause, case)
    if "side" in change:
        change = {"side": "left" if finding.side == "right" else "right"}
    assert finding.tensor != change.get("tensor")
    assert not says(finding.model_copy(update=change), cause, case)


def test_a_suspicion_is_no_confirmation() -> None:
    case = shown_case()
    report = _report_of(case)
    (finding,) = report.findings
    doubted = report.model_copy(update={"findings": [finding.model_copy(update={"status": "suspected"})]})
    score = run.scored(case, doubted, {})
    assert (score.named, score.confirmed, score.perfect) == (True, False, False)


@pytest.mark.parametrize(
    ("error", "got"),
    [
        (DamagedFileError("is not to be read"), "refused: is not to be read"),
        (KeyError("x"), "crashed: KeyError: 'x'"),
    ],
)
def test_a_refusal_or_a_crash_is_a_miss_and_says_why(
    monkeypatch: pytest.MonkeyPatch, error: Exception, got: str
) -> None:
    def refuse(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(run, "compare_operands", refuse)
    score = run_case(shown_case())
    assert not score.detected
    assert score.got == got


@cache
def shown_case() -> Case:
    """One scaled tensor that shows."""
    drawn = (draw_case("value.scaled", seed) for seed in range(20))
    return next(case for case in drawn if case.shown is Shown.yes)


def _report_of(case: Case) -> Report:
    """The report of a case, as it is compared."""
    with tempfile.TemporaryDirectory() as folder:
        operands = run.write_pair(case, Path(folder))
        return build_report(run.compare_operands(operands["left"], operands["right"], run.options_of(case)))
