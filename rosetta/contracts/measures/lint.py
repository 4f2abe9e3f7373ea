"""`lint`: the rules that a model breaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rosetta.contracts.arguments import OPERAND, SELECTION
from rosetta.contracts.measures import Facts, Ground
from rosetta.lint.report import lint_report

ARGUMENTS = {"model": OPERAND, **SELECTION}


def measure(arguments: Mapping[str, Any], ground: Ground) -> Facts:
    """`rules`: the ids of the rules that `model` breaks (`select`, `ignore` choose, `values` reads all of it)."""
    report = lint_report(
        [ground.model(arguments["model"], "model")],
        select=arguments.get("select") or (),
        ignore=arguments.get("ignore") or (),
        values=bool(arguments.get("values", True)),
    )
    return {"rules": sorted({found.rule.id for found in report.found}), "models": len(report.paths)}
