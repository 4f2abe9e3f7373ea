"""The findings as GitLab's code quality report (a subset of Code Climate's issues)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rosetta.report.alerts import Alert, alerts

if TYPE_CHECKING:
    from rosetta.report.report import Report

OPTION = "Write the findings as GitLab's code quality JSON."
SEVERITY = {"error": "critical", "warning": "major", "note": "minor"}
"""Of info, minor, major, critical, blocker (docs.gitlab.com, "Code Quality report format")."""


def render(report: Report) -> str:
    """One report as a list of issues."""
    return render_all({"": report})


def render_all(reports: Mapping[str, Report]) -> str:
    """Several reports as one list: GitLab shows the first issue of a fingerprint, so each stands there once."""
    told = {alert.identity: alert for report in reports.values() for alert in alerts(report)}
    return json.dumps([_issue(alert) for alert in told.values()], indent=1) + "\n"


def _issue(alert: Alert) -> dict[str, object]:
    return {
        "description": f"{alert.message} {alert.advice}".strip(),
        "check_name": alert.rule,
        "fingerprint": alert.identity,
        "severity": SEVERITY[alert.level],
        # GitLab wants a path relative to the repository, and a line
        "location": {"path": alert.file.removeprefix("./") or "rosetta", "lines": {"begin": 1}},
    }
