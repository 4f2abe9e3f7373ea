"""`--github`: annotations and the step's summary where GitHub Actions runs the program."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rosetta.errors import UsageError

if TYPE_CHECKING:
    from rosetta.report.report import Report

Github = Annotated[
    bool | None,
    typer.Option(
        "--github/--no-github",
        help="Annotations and step summary of GitHub Actions.  [default: where it runs this]",
        show_default=False,
    ),
]


def under_actions(github: bool | None) -> bool:
    """Whether GitHub Actions is to be told: as the option says, else where it runs the program."""
    return os.environ.get("GITHUB_ACTIONS") == "true" if github is None else github


def annotate(reports: Sequence[Report], *, to_stderr: bool) -> None:
    """Print annotations and append to the step's summary, where there is one.

    Args:
        reports: what was found.
        to_stderr: whether stdout belongs to something else; GitHub reads both.

    Raises:
        UsageError: the summary cannot be written.
    """
    from rosetta.report.github import SUMMARY_BYTES, commands, summary

    stream = sys.stderr if to_stderr else sys.stdout
    for report in reports:
        stream.write(commands(report))
    stream.flush()
    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if not target:
        return
    path = Path(target)
    try:
        used = path.stat().st_size if path.exists() else 0  # several commands of a step share it
        with path.open("a", encoding="utf-8", errors="replace") as file:
            for report in reports:
                text = summary(report, max(0, SUMMARY_BYTES - used))
                used += len(text.encode("utf-8", "replace"))
                if used <= SUMMARY_BYTES:
                    file.write(text)
    except OSError as error:
        raise UsageError(
            f"the step's summary cannot be written: {os.strerror(error.errno or 0).lower()}",
            file=path,
            remedy="GITHUB_STEP_SUMMARY names a file, or unset it",
        ) from error
