"""`rosetta demo`: build a small pair, break one side, and show the diagnosis. Parses, calls, prints, exits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rosetta.cli.terminal import deliver, show, width
from rosetta.report.view import View

FOUND, NOT_FOUND = 0, 1


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("demo", short_help="Build a small pair, break one, and show the diagnosis.")(demo)


def demo(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where the files go.")] = Path(
        "rosetta-demo"
    ),
    *,
    fault: Annotated[
        str, typer.Option(metavar="NAME", help="transposed, scaled, swapped, epsilon or theta.")
    ] = "transposed",
) -> None:
    """Write a small whole model and a copy with a fault that converters make,
    compare the two, and say what is wrong; the page of the report lies beside them.

    Exits 0 when the planted fault is the one that is found, 1 when it is not.

    \b
    Examples:
      rosetta demo
      rosetta demo try --fault theta
    """
    from rosetta.api import compare  # imports torch: not at the program's start
    from rosetta.demo import FAULTS, write_demo
    from rosetta.report.html import render as page
    from rosetta.report.text import render

    whole, broken = write_demo(folder, fault)
    show(f"{whole}: a llama of 4 layers, random weights\n{broken}: the same, but {FAULTS[fault].says}\n\n")
    show(f"$ rosetta {broken} {whole}\n")
    report = compare(broken, whole)
    show(render(report, View(width=width())))
    target = folder / "report.html"
    deliver(page(report), str(target))
    show(f"\nThe same as a page: {target}\n")
    found = [finding.kind for finding in report.findings if finding.status == "confirmed"]
    raise typer.Exit(FOUND if FAULTS[fault].kind in found else NOT_FOUND)
