"""`rosetta report R.json …`: show stored reports again, in any form. Parses, calls, prints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rosetta.cli.github import Github, annotate, under_actions
from rosetta.cli.outputs import Targets, deliver_report, deliver_reports, takes_stdout, with_outputs
from rosetta.cli.terminal import show, width
from rosetta.errors import UsageError
from rosetta.report.view import View

if TYPE_CHECKING:
    from rosetta.report.report import Report


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("report", short_help="Show stored reports again, in any form.")(with_outputs(report))


def report(
    files: Annotated[list[Path], typer.Argument(metavar="REPORT…", help="Files that --json wrote.")],
    *,
    verbose: Annotated[int, typer.Option("-v", count=True, help="Every stage.", show_default=False)] = 0,
    quiet: Annotated[bool, typer.Option("-q", help="Only the verdict.")] = False,
    github: Github = None,
    targets: Targets,
) -> None:
    """Show reports that --json wrote again: as text, or in the forms that the options
    name. Of several reports the text is a verdict each, and every form is one
    file of all of them.

    \b
    Examples:
      rosetta report report.json
      rosetta report report.json --html report.html --junit junit.xml
      rosetta report reports/*.json --html index.html
    """
    if quiet and verbose:
        raise UsageError("-q and -v exclude each other")
    from rosetta.report.stored import read_report  # imports pydantic: not at the program's start

    found = _named(files, [read_report(file) for file in files])
    to_stderr = takes_stdout(targets)
    view = View(-1 if quiet else verbose, width=width(to_stderr=to_stderr))
    show(_text(found, view), to_stderr=to_stderr)
    if len(found) == 1:
        deliver_report(targets, next(iter(found.values())), github)
        return
    deliver_reports(targets, found)
    if under_actions(github):
        annotate(list(found.values()), to_stderr=to_stderr)


def _named(files: list[Path], reports: list[Report]) -> dict[str, Report]:
    """Reports by their files' names, told apart where two are alike."""
    named: dict[str, Report] = {}
    for file, read in zip(files, reports, strict=True):
        name, count = file.stem, 2
        while name in named:
            name, count = f"{file.stem}-{count}", count + 1
        named[name] = read
    return named


def _text(reports: dict[str, Report], view: View) -> str:
    from rosetta.report.text import render

    if len(reports) == 1:
        return render(next(iter(reports.values())), view)
    line = replace(view, verbosity=-1)
    return "".join(f"{name}: {render(one, line)}" for name, one in reports.items())
