"""Faults as SARIF 2.1.0, which code hosts show beside the file."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rosetta import __version__
from rosetta.lint.report import LintReport
from rosetta.lint.rule import Found, Rule
from rosetta.lint.rules import FAMILIES, all_rules
from rosetta.sarif import identity, log, result, rule


def sarif_text(report: LintReport) -> str:
    """The report as one run of one tool."""
    seen = Counter[str]()
    results = []
    for found in report.found:
        same = identity(found.rule.id, str(found.file), _subject(found))
        seen[same] += 1
        again = same if seen[same] == 1 else identity(same, str(seen[same]))
        results.append(_result(found, again))
    return log(__version__, [_described(loaded.rule) for loaded in all_rules()], results)


def _described(stated: Rule) -> dict[str, Any]:
    return rule(
        stated.id,
        stated.name,
        stated.what,
        f"{stated.what} {stated.why}",
        {"What is wrong": stated.what, "Why it happens": stated.why, "How it is mended": stated.fix},
        stated.severity,
        ["model", FAMILIES[stated.id[0]]],
    )


def _result(found: Found, same: str) -> dict[str, Any]:
    subject, fault = _subject(found), found.fault
    message = f"{subject!r}: {fault.message}" if subject else fault.message
    return result(
        found.rule.id,
        found.rule.severity,
        message,
        same,
        file=str(found.file),
        member=subject,
        byte=fault.byte,
    )


def _subject(found: Found) -> str:
    """The tensor or key concerned; empty where there is none."""
    return found.fault.tensor or found.fault.key or ""
