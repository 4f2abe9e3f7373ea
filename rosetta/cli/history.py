"""`rosetta history add|show`: keep reports in SQLite, and say when a pair began to diverge. Parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rosetta.cli.terminal import show as print_text
from rosetta.cli.terminal import width
from rosetta.report.folding import folded
from rosetta.report.table import table
from rosetta.report.words import counted, stage_place

if TYPE_CHECKING:
    from rosetta.history import Run, Story

Database = Annotated[Path, typer.Option("--db", metavar="FILE", help="The history, an SQLite file.")]
SHORT = 10  # characters of a commit
SHOWN = 6  # names of tensors


def command(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(
        rich_markup_mode=None, no_args_is_help=True, help="Keep reports, and see how pairs fared."
    )
    group.command("add", short_help="Keep reports in a history.")(add)
    group.command("show", short_help="Say how pairs stand, and since when.")(show)
    app.add_typer(group, name="history", short_help="Keep reports in SQLite, and see how pairs fared.")


def add(
    files: Annotated[list[Path], typer.Argument(metavar="REPORT…", help="Files that --json wrote.")],
    *,
    db: Database,
) -> None:
    """Keep reports in an SQLite file, which is made where there is none. A run that
    is there already is not kept twice; several processes may add at once.

    \b
    Examples:
      rosetta history add report.json --db history.db
      rosetta history add reports/*.json --db history.db
    """
    from rosetta import history  # imports sqlite3: not at the program's start
    from rosetta.report.stored import read_report

    reports = [read_report(file) for file in files]
    with history.opened(db, make=True) as base:
        new = history.add(base, reports)
    there = len(reports) - new
    print_text(f"{db}: {counted(new, 'run')} added" + (f", {there} already there" if there else "") + "\n")


def show(
    pair: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="Only pairs of which an operand holds this text.")
    ] = None,
    *,
    db: Database,
    verbose: Annotated[bool, typer.Option("-v", help="Every run.")] = False,
) -> None:
    """Say of each pair how it stands, since which run, and at which stage it first
    diverges; pairs that diverge come first.

    \b
    Examples:
      rosetta history show --db history.db
      rosetta history show model.apr -v --db history.db
    """
    from rosetta import history  # imports sqlite3: not at the program's start

    with history.opened(db) as base:
        found = history.stories(base, pair)
    lines = [line for story in found for line in _story(story, verbose=verbose)]
    print_text("".join(f"{line}\n" for line in lines) or "No run is kept of such a pair.\n")


def _story(story: Story, *, verbose: bool) -> list[str]:
    lines = [f"{story.left} and {story.right}, prompt {story.prompt!r}: {_stands(story)}", *_changed(story)]
    if verbose:
        rows = [
            [
                run.started[:19].replace("T", " "),
                run.verdict,
                _place(run),
                " ".join(run.findings),
                _commit(run),
                run.id,
            ]
            for run in story.runs
        ]
        lines += table(["started", "verdict", "first at", "findings", "commit", "run"], rows, width())
    return lines


def _stands(story: Story) -> str:
    """`divergent since 2026-11-28 (2 of 5 runs, commit abc), first at Layer 0 k; match before`."""
    now, began, before = story.now, story.began, story.before
    same = len(story.runs) - story.runs.index(began)
    runs = f"{same} of {counted(len(story.runs), 'run')}"
    commit = f", commit {_commit(began)}" if began.commit else ""
    where = f", first at {_place(began)}" if began.first_stage else ""
    if began.first_stage and now.first_stage != began.first_stage:
        where += f", now at {_place(now)}"
    was = f"; {before.verdict} before, last at {before.started[:10]}" if before else ""
    return f"{now.verdict} since {began.started[:10]} ({runs}{commit}){where}{was}"


def _changed(story: Story) -> list[str]:
    """Which tensors have had other bytes since then, a line a side."""
    lines = []
    for side in ("left", "right"):
        names = folded(name for changed, name in story.changed if changed == side)
        if names:
            more = " …" if len(names) > SHOWN else ""
            lines.append(f"  other bytes since then: {side} {', '.join(names[:SHOWN])}{more}")
    return lines


def _place(run: Run) -> str:
    return stage_place(run.first_stage) if run.first_stage else ""


def _commit(run: Run) -> str:
    return (run.commit or "")[:SHORT]
