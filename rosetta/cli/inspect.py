"""`rosetta inspect FILE`: what a file holds, without running it."""

from __future__ import annotations

from typing import Annotated

import typer

from rosetta.cli.terminal import STDOUT, Terminal, check_target, deliver, show


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("inspect", short_help="Say what a file holds: config, tokenizer, tensors.")(inspect)


def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file or folder that holds a model.")],
    *,
    stats: Annotated[
        bool, typer.Option("--stats", help="Read every tensor's values too, and mark suspicious ones.")
    ] = False,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Write it as JSON. - is stdout, and nothing else is then."),
    ] = None,
) -> None:
    """Say what a file or folder holds: its config and what of it is defaulted, its
    tokenizer, its tensors. It need not be a model that rosetta can run.

    \b
    Examples:
      rosetta inspect model.apr
      rosetta inspect model.gguf --stats
      rosetta inspect hf-folder --json - | jq .config
    """
    if json is not None:
        check_target(json)
    from rosetta.inspection.facts import inspection  # imports torch: not at the program's start

    with Terminal(quiet=not stats) as listener:
        facts = inspection(file, statistics=stats, progress=listener.working)
    if json != STDOUT:
        from rosetta.inspection.text import render

        show(render(facts))
    if json is not None:
        deliver(facts.to_json(), json)
