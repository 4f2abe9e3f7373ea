"""The exit code of every verdict under every assertion."""

from __future__ import annotations

import itertools

import pytest

from fixtures import reports
from rosetta.report.exit_code import exit_code

# verdict: (asserted, + explicit threshold, + strict, + both), each without and with a latent finding
EXPECTED = {
    "match": ((0, 0, 0, 0), (0, 0, 1, 1)),
    "drift": ((0, 1, 1, 1), (0, 1, 1, 1)),
    "divergent": ((1, 1, 1, 1), (1, 1, 1, 1)),
    "inconclusive": ((3, 3, 3, 3), (3, 3, 3, 3)),
}


@pytest.mark.parametrize("verdict", EXPECTED)
@pytest.mark.parametrize("latent", [False, True])
def test_an_asserted_verdict_has_its_exit_code(verdict: str, latent: bool) -> None:
    report = reports.report(verdict=verdict, findings=[reports.finding(latent=True)] if latent else [])
    codes = tuple(
        exit_code(report, assert_match=True, strict=strict, threshold_is_explicit=explicit)
        for strict, explicit in ((False, False), (False, True), (True, False), (True, True))
    )
    assert codes == EXPECTED[verdict][latent]


@pytest.mark.parametrize("verdict", EXPECTED)
@pytest.mark.parametrize(("strict", "explicit"), [*itertools.product([False, True], repeat=2)])
def test_what_was_not_asserted_passes(verdict: str, strict: bool, explicit: bool) -> None:
    report = reports.report(verdict=verdict, findings=[reports.finding(latent=True)])
    assert exit_code(report, assert_match=False, strict=strict, threshold_is_explicit=explicit) == 0


def test_a_finding_that_is_not_latent_does_not_fail_a_match_by_itself() -> None:
    report = reports.report(findings=[reports.finding(latent=False)])
    assert exit_code(report, assert_match=True, strict=True) == 0
