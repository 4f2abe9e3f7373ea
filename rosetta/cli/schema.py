"""`rosetta schema [NAME]`: print the JSON Schema of the report, or of another command's result."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from rosetta.cli.terminal import STDOUT, deliver


class Document(StrEnum):
    """What a schema is printed of."""

    report = "report"
    check = "check"
    inspect = "inspect"
    parity = "parity"


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("schema", short_help="Print the JSON Schema of the report.")(schema)


def schema(
    name: Annotated[
        Document, typer.Argument(help="Of a comparison's report, of a check, an inspection, a parity run.")
    ] = Document.report,
) -> None:
    """Print the JSON Schema (2020-12) of the report that --json writes, or of what
    another command writes.

    \b
    Examples:
      rosetta schema
      rosetta schema check
    """
    from rosetta.report.report import Report, schema_text  # imports pydantic: not at the program's start

    if name is Document.check:
        from rosetta.inspection.check import Check

        deliver(schema_text(Check), STDOUT)
    elif name is Document.inspect:
        from rosetta.inspection.facts import Inspection

        deliver(schema_text(Inspection), STDOUT)
    elif name is Document.parity:
        from rosetta.parity.results import Parity

        deliver(schema_text(Parity), STDOUT)
    else:
        deliver(schema_text(Report), STDOUT)
