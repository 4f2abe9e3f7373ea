"""The exit code of every verdict under every assertion."""

from __future__ import annotations

import itertools

import pytest

from fixtures import reports
from rosetta.errors import UsageError
from rosetta.report.exit_code import ALWAYS, FAILURES, assertion, exit_code, failures

# verdict: (asserted, + explicit threshold, + all failures, + both), each without and with a latent finding
EXPECTED = {
    "match": ((0, 0, 0, 0), (0, 0, 1, 1)),
    "drift": ((0, 1, 1, 1), (0, 1, 1, 1)),
    "divergent": ((1, 1, 1, 1), (1, 1, 1, 1)),
    "inconclusive": ((3, 3, 3, 3), (3, 3, 3, 3)),
    "error": ((2, 2, 2, 2), (2, 2, 2, 2)),
}


@pytest.mark.parametrize("verdict", EXPECTED)
@pytest.mark.parametrize("latent", [False, True])
def test_an_asserted_verdict_has_its_exit_code(verdict: str, latent: bool) -> None:
    report = reports.report(verdict=verdict, findings=[reports.finding(latent=True)] if latent else [])
    codes = tuple(
        exit_code(report, assert_match=True, fail_on=fail_on, threshold_is_explicit=explicit)
        for fail_on, explicit in ((ALWAYS, False), (ALWAYS, True), (FAILURES, False), (FAILURES, True))
    )
    assert codes == EXPECTED[verdict][latent]


@pytest.mark.parametrize("verdict", ["match", "drift", "divergent", "inconclusive"])
@pytest.mark.parametrize(("fail_on", "explicit"), [*itertools.product([ALWAYS, FAILURES], [False, True])])
def test_what_was_not_asserted_passes(verdict: str, fail_on: tuple[str, ...], explicit: bool) -> None:
    report = reports.report(verdict=verdict, findings=[reports.finding(latent=True)])
    code = exit_code(report, assert_match=False, fail_on=fail_on, threshold_is_explicit=explicit)  # type: ignore[arg-type]
    assert code == 0


def test_a_finding_that_is_not_latent_does_not_fail_a_match_by_itself() -> None:
    report = reports.report(findings=[reports.finding(latent=False)])
    assert exit_code(report, assert_match=True, fail_on=FAILURES) == 0


@pytest.mark.parametrize(
    ("named", "drift", "latent"),
    [("divergent", 0, 0), ("drift", 1, 0), ("latent", 0, 1), ("latent, drift", 1, 1)],
)
def test_each_failure_is_chosen_by_itself(named: str, drift: int, latent: int) -> None:
    chosen = failures(named, strict=False)
    hidden = reports.report(findings=[reports.finding(latent=True)])
    assert exit_code(reports.drift(), assert_match=True, fail_on=chosen) == drift
    assert exit_code(hidden, assert_match=True, fail_on=chosen) == latent
    assert exit_code(reports.dims_swapped(), assert_match=True, fail_on=chosen) == 1


def test_strict_is_all_of_them() -> None:
    assert failures(None, strict=True) == failures("latent,drift", strict=False) == FAILURES
    assert failures(None, strict=False) == ALWAYS


@pytest.mark.parametrize("text", ["warnings", "", "drift,"])
def test_a_failure_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-on takes divergent, latent, drift"):
        failures(text, strict=False)


def test_an_assertion_says_what_was_asserted_and_what_came_of_it() -> None:
    said = assertion(reports.drift(), assert_match=True, fail_on=ALWAYS, threshold_is_explicit=True)
    assert (said.asserted, said.passed, said.exit_code, said.fail_on) == (
        True,
        False,
        1,
        ("divergent", "drift"),
    )
    said = assertion(reports.drift(), assert_match=False, fail_on=ALWAYS, threshold_is_explicit=False)
    assert (said.asserted, said.passed, said.exit_code, said.fail_on) == (False, None, 0, ())
