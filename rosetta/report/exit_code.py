"""What a report means to the shell: the exit code that CI jobs rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rosetta.report.report import Report

PASSED, FAILED, USAGE, INCONCLUSIVE = 0, 1, 2, 3


def exit_code(
    report: Report, *, assert_match: bool, strict: bool = False, threshold_is_explicit: bool = False
) -> int:
    """The exit code of a comparison.

    Args:
        report: what was found.
        assert_match: whether a match was asserted; if not, every report passes.
        strict: whether drift and latent findings fail too.
        threshold_is_explicit: whether the threshold was given, which makes it a limit that drift fails.

    Returns:
        0 passed, 1 failed, 3 nothing comparable was compared.
    """
    if not assert_match:
        return PASSED
    if report.verdict == "inconclusive":
        return INCONCLUSIVE
    drifted = report.verdict == "drift" and (strict or threshold_is_explicit)
    latent = strict and any(finding.latent for finding in report.findings)
    return FAILED if report.verdict == "divergent" or drifted or latent else PASSED
