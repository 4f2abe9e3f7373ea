"""`rosetta explain NAME`: what a kind of finding or a lint rule means, why it happens, how it is repaired."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

import typer

from rosetta.cli.terminal import show
from rosetta.errors import UsageError


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("explain", short_help="Say what a kind of finding, or a lint rule, means.")(explain)


def explain(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="Such as value.offset, or a rule such as F101; all kinds are listed without.",
        ),
    ] = None,
) -> None:
    """Say what a kind of finding, or a rule of rosetta lint, means, why it happens and
    how it is repaired. Without one, list all kinds of findings.

    \b
    Examples:
      rosetta explain
      rosetta explain config.rope_theta
      rosetta explain F101
    """
    if kind is not None:
        from rosetta.lint.text import explained as explained_rule
        from rosetta.lint.text import rule_named

        if (rule := rule_named(kind)) is not None:
            show(explained_rule(rule))
            return
    from rosetta.diagnose.kinds import all_kinds  # reads every hypothesis: not at the program's start
    from rosetta.report.kinds import explained, listed

    kinds = all_kinds()
    if kind is None:
        show(listed(kinds.values()))
        return
    if kind not in kinds:
        [nearest] = get_close_matches(kind, kinds, n=1, cutoff=0)
        raise UsageError(
            f"there is no finding kind {kind!r}",
            remedy=f"did you mean {nearest}? rosetta explain lists all",
        )
    show(explained(kinds[kind]))
