"""`rosetta schema`: print the JSON Schema of the report."""

from __future__ import annotations

import typer

from rosetta.cli.terminal import STDOUT, deliver


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("schema", short_help="Print the JSON Schema of the report.")(schema)


def schema() -> None:
    """Print the JSON Schema (2020-12) of the report that --json writes."""
    from rosetta.report.report import report_schema  # imports pydantic: not at the program's start

    deliver(report_schema(), STDOUT)
