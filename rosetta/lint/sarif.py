"""Faults as SARIF 2.1.0 (OASIS), which code hosts show beside the file."""

from __future__ import annotations

import json
from typing import Any

from rosetta import __version__
from rosetta.lint.report import LintReport
from rosetta.lint.rule import Found, Rule
from rosetta.lint.rules import FAMILIES, all_rules

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif_text(report: LintReport) -> str:
    """The report as one run of one tool."""
    rules = [loaded.rule for loaded in all_rules()]
    index = {rule.id: place for place, rule in enumerate(rules)}
    driver = {"name": "rosetta", "version": __version__, "rules": [_described(rule) for rule in rules]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(found, index[found.rule.id]) for found in report.found],
    }
    return (
        json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=False)
        + "\n"
    )


def _described(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.what},
        "fullDescription": {"text": f"{rule.what} {rule.why}"},
        "help": {"text": rule.fix},
        "defaultConfiguration": {"level": rule.severity},
        "properties": {"tags": [FAMILIES[rule.id[0]]]},
    }


def _result(found: Found, index: int) -> dict[str, Any]:
    fault = found.fault
    physical: dict[str, Any] = {"artifactLocation": {"uri": found.file.as_posix()}}
    if fault.byte is not None:
        physical["region"] = {"byteOffset": fault.byte, "byteLength": 1}
    location: dict[str, Any] = {"physicalLocation": physical}
    name = fault.tensor or fault.key
    if name is not None:
        location["logicalLocations"] = [
            {"name": name, "kind": "member" if fault.tensor is None else "object"}
        ]
    subject = "" if name is None else f"{name!r}: "
    return {
        "ruleId": found.rule.id,
        "ruleIndex": index,
        "level": found.rule.severity,
        "message": {"text": f"{subject}{fault.message}"},
        "locations": [location],
    }
