"""`report`: whether a report is what its schema says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rosetta.containers.values import TEXTS
from rosetta.contracts.arguments import COMPARISON, OPERAND
from rosetta.contracts.measures import Facts, Ground
from rosetta.contracts.measures.compare import compared

ARGUMENTS = {
    **COMPARISON,
    **dict.fromkeys(("file", "schema_from"), OPERAND),
    **dict.fromkeys(("without", "schema_without"), TEXTS),
}


def measure(arguments: Mapping[str, Any], ground: Ground) -> Facts:
    """Read a report `file`, or that of a comparison of `left` and `right`, as its schema has it.

    `valid`; `strict`: whether it is JSON without NaN and Infinity; `schema`: whether the file `schema_from` is the
    schema that this program's reports have. `without` takes fields of the report away first, `schema_without` those
    of the schema.
    """
    from pydantic import ValidationError

    from rosetta.report.report import Report, report_schema

    text = (
        Path(ground.model(arguments["file"], "file")).read_text("utf-8")
        if "file" in arguments
        else (compared(arguments, ground).to_json())
    )
    strict = True

    def refused(name: str) -> float:
        nonlocal strict
        strict = False
        return float(name)

    fields = json.loads(text, parse_constant=refused)
    for name in arguments.get("without") or ():
        del fields[name]
    try:
        Report.model_validate(fields)
        valid = True
    except ValidationError:
        valid = False
    facts: dict[str, Any] = {"valid": valid, "strict": strict}
    if "schema_from" in arguments:
        stored = Path(ground.model(arguments["schema_from"], "schema")).read_text("utf-8")
        schema = json.loads(stored)
        for name in arguments.get("schema_without") or ():
            del schema["properties"][name]
        facts["schema"] = schema == json.loads(report_schema())
    return facts
