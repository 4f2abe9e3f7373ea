"""The findings as SARIF 2.1.0, for code scanning: rules in words, alerts that are followed from run to run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rosetta.report.alerts import Alert, alerts, rule_named

if TYPE_CHECKING:
    from rosetta.report.report import Report

OPTION = "Write the findings as SARIF 2.1.0."
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
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
    shown = sorted(told.values(), key=lambda alert: ("error", "warning", "note").index(alert.level))[:SHOWN]
    rules = sorted({alert.rule for alert in shown})
    first = next(iter(reports.values()))
    run = {
        "tool": {
            "driver": {
                "name": first.tool.name,
                "version": first.tool.version,
                "semanticVersion": first.tool.version,
                "rules": [_rule(name) for name in rules],
            }
        },
        "automationDetails": {"id": _category(list(reports.values()))},
        "invocations": [_invocation(report, len(told) - len(shown)) for report in reports.values()],
        "columnKind": "unicodeCodePoints",
        "results": [_result(alert, rules) for alert in shown],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def uri(path: str) -> str:
    """A path as a URI reference: relative ones stay so, and are of the folder that the program ran in.

    >>> uri("models/my model.gguf")
    'models/my%20model.gguf'
    >>> uri("/data/model.gguf")
    'file:///data/model.gguf'
    """
    path = path.encode("utf-8", "replace").decode("utf-8")
    if path.startswith("/"):
        return "file://" + quote(str(PurePosixPath(path)))
    if PureWindowsPath(path).drive:
        return "file:///" + quote(path.replace("\\", "/"), safe="/:")
    return quote(path.removeprefix("./"), safe="/")


def _category(reports: Sequence[Report]) -> str:
    """What an upload replaces: the last one of the same pair, and of no other."""
    if len(reports) > 1:
        return "rosetta/"
    names = (uri(str(side.operand)).replace("/", "_") for side in (reports[0].left, reports[0].right))
    return f"rosetta/{'..'.join(names)}/"


def _rule(name: str) -> dict[str, Any]:
    rule = rule_named(name)
    text = " ".join(part for part in (rule.means, rule.why, rule.repair) if part)
    parts = (("What it means", rule.means), ("Why it happens", rule.why), ("How it is repaired", rule.repair))
    return {
        "id": rule.id,
        "name": "".join(part.capitalize() for part in rule.id.replace(".", "_").split("_")),
        "shortDescription": {"text": rule.title if rule.title.endswith(".") else f"{rule.title}."},
        "fullDescription": {"text": rule.means},
        "help": {"text": text, "markdown": "\n\n".join(f"**{head}** {said}" for head, said in parts if said)},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["model", rule.id.partition(".")[0]]},
    }


def _result(alert: Alert, rules: Sequence[str]) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if alert.file:  # an artifact of no name would be the folder itself
        where = {"artifactLocation": {"uri": uri(alert.file)}, "region": {"startLine": 1}}
        location["physicalLocation"] = where
    if alert.subject:
        location["logicalLocations"] = [{"fullyQualifiedName": alert.subject, "kind": "member"}]
    return {
        "ruleId": alert.rule,
        "ruleIndex": rules.index(alert.rule),
        "level": alert.level,
        "message": {"text": f"{alert.message} {alert.advice}".strip()},
        "locations": [location] if location else [],
        # GitHub follows an alert by the second; without it, it would hash lines of a binary file.
        "partialFingerprints": {
            "rosettaFinding/v1": alert.identity,
            "primaryLocationLineHash": f"{alert.identity[:16]}:1",
        },
        "properties": {key: value for key, value in alert.facts.items() if value is not None},
    }


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
