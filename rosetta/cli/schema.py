"""`rosetta schema [NAME]`: print the JSON Schema of the report, or of another command's result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    lint = "lint"
    contracts = "contracts"
    sweep = "sweep"


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("schema", short_help="Print the JSON Schema of the report.")(schema)


def schema(
    name: Annotated[
        Document, typer.Argument(help="Of a comparison's report, or of what that command writes with --json.")
    ] = Document.report,
) -> None:
    """Print the JSON Schema (2020-12) of the report that --json writes, or of what
    another command writes.

    \b
    Examples:
      rosetta schema
      rosetta schema check
    """
    deliver(SCHEMAS[name](), STDOUT)


def _report() -> str:
    from rosetta.report.report import report_schema  # imports pydantic: not at the program's start

    return report_schema()


def _check() -> str:
    from rosetta.inspection.check import Check
    from rosetta.report.report import schema_text

    return schema_text(Check)


def _inspect() -> str:
    from rosetta.inspection.facts import Inspection
    from rosetta.report.report import schema_text

    return schema_text(Inspection)


def _parity() -> str:
    from rosetta.parity.results import Parity
    from rosetta.report.report import schema_text

    return schema_text(Parity)


def _lint() -> str:
    from rosetta.lint.report import LintDocument
    from rosetta.report.report import document_schema

    return document_schema(LintDocument)


def _contracts() -> str:
    from rosetta.contracts.run import ContractsDocument
    from rosetta.report.report import document_schema

    return document_schema(ContractsDocument)


def _sweep() -> str:
    from rosetta.report.report import document_schema
    from rosetta.sweep.matrix import MatrixDocument

    return document_schema(MatrixDocument)


SCHEMAS: Mapping[Document, Callable[[], str]] = {
    Document.report: _report,
    Document.check: _check,
    Document.inspect: _inspect,
    Document.parity: _parity,
    Document.lint: _lint,
    Document.contracts: _contracts,
    Document.sweep: _sweep,
}
