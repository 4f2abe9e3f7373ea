"""What a report means to the shell: the exit code that CI jobs rely on."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, get_args

from rosetta.errors import UsageError

if TYPE_CHECKING:
    from rosetta.report.report import Assertion, Report

PASSED, FAILED, USAGE, INCONCLUSIVE = 0, 1, 2, 3
Failure = Literal["divergent", "latent", "drift"]
"""What may fail an assertion; `divergent` always does."""
FAILURES: tuple[Failure, ...] = get_args(Failure)
ALWAYS: tuple[Failure, ...] = ("divergent",)


def failures(text: str | None, *, strict: bool) -> tuple[Failure, ...]:
    """What `--fail-on latent,drift` and `--strict` let fail, `divergent` always among it.

    Raises:
        UsageError: a word that is none of them.

    >>> failures("drift", strict=False)
    ('divergent', 'drift')
    """
    named = {word.strip() for word in (text or "").split(",")} - ({""} if text is None else set())
    if unknown := named - set(FAILURES):
        raise UsageError(
            f"--fail-on takes {', '.join(FAILURES)}, not {min(unknown)!r:.80}",
            remedy="separate several by commas",
        )
    return FAILURES if strict else tuple(one for one in FAILURES if one in named or one in ALWAYS)


def exit_code(
    report: Report,
    *,
    assert_match: bool,
    fail_on: Collection[Failure] = ALWAYS,
    threshold_is_explicit: bool = False,
) -> int:
    """The exit code of a comparison.

    Args:
        report: what was found.
        assert_match: whether a match was asserted; if not, every report passes.
        fail_on: what fails besides a divergence.
        threshold_is_explicit: whether the threshold was given, which makes it a limit that drift fails.

    Returns:
        0 passed, 1 failed, 2 there was no comparison, 3 nothing comparable was compared.
    """
    if report.verdict == "error":
        return USAGE
    if not assert_match:
        return PASSED
    if report.verdict == "inconclusive":
        return INCONCLUSIVE
    drifted = report.verdict == "drift" and ("drift" in fail_on or threshold_is_explicit)
    latent = "latent" in fail_on and any(finding.latent for finding in report.findings)
    return FAILED if report.verdict == "divergent" or drifted or latent else PASSED


def assertion(
    report: Report, *, assert_match: bool, fail_on: Collection[Failure], threshold_is_explicit: bool
) -> Assertion:
    """What was asserted of a report, and what came of it; see `exit_code`."""
    from rosetta.report.report import Assertion  # imports pydantic: not at the program's start

    code = exit_code(
        report, assert_match=assert_match, fail_on=fail_on, threshold_is_explicit=threshold_is_explicit
    )
    limit: tuple[Failure, ...] = ("drift",) if threshold_is_explicit else ()
    return Assertion(
        asserted=assert_match,
        passed=code == PASSED if assert_match else None,
        exit_code=code,
        fail_on=tuple(dict.fromkeys([*fail_on, *limit])) if assert_match else (),
    )
