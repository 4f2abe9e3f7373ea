"""The findings as SARIF 2.1.0, for code scanning: rules in words, alerts that are followed from run to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rosetta.report.alerts import LEVELS, Alert, alerts, rule_named
from rosetta.sarif import log, result, rule, uri

if TYPE_CHECKING:
    from rosetta.report.report import Report

OPTION = "Write the findings as SARIF 2.1.0."
SHOWN = 5000
"""Results that GitHub shows of a run, the gravest first (docs.github.com, "SARIF support for code scanning")."""


def render(report: Report) -> str:
    """One report as SARIF."""
    return render_all({"": report})


def render_all(reports: Mapping[str, Report]) -> str:
    """Several reports as one SARIF run: GitHub takes no second run of one tool and category.

    Args:
        reports: by name; the names are not needed here.
    """
    told = {alert.identity: alert for report in reports.values() for alert in alerts(report)}
    shown = sorted(told.values(), key=lambda alert: LEVELS.index(alert.level))[:SHOWN]
    return log(
        next(iter(reports.values())).tool.version,
        [_rule(name) for name in sorted({alert.rule for alert in shown})],
        [_result(alert) for alert in shown],
        automationDetails={"id": _category(list(reports.values()))},
        invocations=[_invocation(report, len(told) - len(shown)) for report in reports.values()],
    )


def _category(reports: Sequence[Report]) -> str:
    """What an upload replaces: the last one of the same pair, and of no other."""
    if len(reports) > 1:
        return "rosetta/"
    names = (uri(str(side.operand)).replace("/", "_") for side in (reports[0].left, reports[0].right))
    return f"rosetta/{'..'.join(names)}/"


def _rule(name: str) -> dict[str, Any]:
    stated = rule_named(name)
    sections = {
        "What it means": stated.means,
        "Why it happens": stated.why,
        "How it is repaired": stated.repair,
    }
    return rule(
        stated.id,
        "".join(part.capitalize() for part in stated.id.replace(".", "_").split("_")),
        stated.title if stated.title.endswith(".") else f"{stated.title}.",
        stated.means,
        sections,
        "error",
        ["model", stated.id.partition(".")[0]],
    )


def _result(alert: Alert) -> dict[str, Any]:
    message = f"{alert.message} {alert.advice}".strip()
    found = result(alert.rule, alert.level, message, alert.identity, file=alert.file, member=alert.subject)
    return {**found, "properties": {key: value for key, value in alert.facts.items() if value is not None}}


def _invocation(report: Report, left_out: int) -> dict[str, Any]:
    """How the run went: what it exits with, and what it has to say of itself."""
    notices = [{"level": "error", "message": {"text": report.error}}] if report.error else []
    if left_out:
        text = f"{left_out} more results are left out: no more than {SHOWN} are shown."
        notices.append({"level": "warning", "message": {"text": text}})
    facts: dict[str, Any] = {
        "executionSuccessful": report.error is None,
        "exitCode": report.assertion.exit_code,
        "toolExecutionNotifications": notices,
    }
    if report.run is not None:
        facts["startTimeUtc"] = report.run.started.replace("+00:00", "Z")
    return facts
