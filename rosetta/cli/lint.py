"""`rosetta lint PATH…`: is what model files say sound? Parses, calls, prints, exits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rosetta.cli.terminal import STDOUT, Terminal, check_target, deliver, show
from rosetta.errors import UsageError


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("lint", short_help="Check model files against rules.")(lint)


def lint(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH…", help="Files, folders of a model, or folders of many."),
    ] = None,
    *,
    select: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE,…", help="Only these: ids (F101), their beginnings (F, C2), names."),
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="RULE,…", help="Not these.")] = None,
    values: Annotated[bool, typer.Option("--values", help="Read all values, too.")] = False,
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A text to encode: how healthy is the tokenizer?")
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Write it as JSON. - is stdout, and nothing else is then."),
    ] = None,
    sarif: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write it as SARIF 2.1, which code hosts show.")
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="List all rules and exit.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit 0 on faults, too.")] = False,
) -> None:
    """Check model files against rules that a file must not break, whatever the model:
    one line a fault, with the tensor or key and the byte where it lies. No model is
    run, and without --values only headers are read.

    Exits 0 when there is no fault, 1 when there is one, 2 when a path cannot be read.

    \b
    Examples:
      rosetta lint model.gguf
      rosetta lint models/ --values --ignore C217
      rosetta lint hf-folder --text source.py
      rosetta lint --rules
    """
    from rosetta.lint.text import listed  # gguf-py's tables take a moment: not at the program's start

    if rules:
        show(listed())
        return
    if not paths:
        raise UsageError("no file is named", remedy="rosetta lint model.gguf")
    targets = [target for target in (json, sarif) if target is not None]
    for target in targets:
        check_target(target)
    if len(set(targets)) < len(targets):
        raise UsageError("--json and --sarif cannot go to one place", remedy="name a file for each")
    from rosetta.lint import text as as_text
    from rosetta.lint.report import LintReport, lint_report
    from rosetta.lint.sarif import sarif_text

    with Terminal() as listener:
        report: LintReport = lint_report(
            paths,
            select=_names(select),
            ignore=_names(ignore),
            values=values,
            text=text,
            progress=listener.working,
        )
    if STDOUT not in targets:
        show(as_text.render(report))
    if json is not None:
        deliver(report.to_json(), json)
    if sarif is not None:
        deliver(sarif_text(report), sarif)
    raise typer.Exit(1 if report.found and not exit_zero else 0)


def _names(given: list[str] | None) -> list[str]:
    """Rules as the options list them: separated by commas, or the option again."""
    return [name.strip() for names in given or [] for name in names.split(",") if name.strip()]
