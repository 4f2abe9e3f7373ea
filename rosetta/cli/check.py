"""`rosetta check FILE`: is this one file right? Parses, calls, prints, exits."""

from __future__ import annotations

from typing import Annotated

import typer

from rosetta.cli.terminal import STDOUT, Terminal, check_target, deliver, show, width

EXIT_CODES = {"right": 0, "doubtful": 0, "wrong": 1, "unjudged": 3}


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("check", short_help="Is this one file right?")(check)


def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file or folder that holds a model.")],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 on a doubt, too.")] = False,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Write it as JSON. - is stdout, and nothing else is then."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", help="Only the verdict.")] = False,
) -> None:
    """Say whether one file is right, with nothing to compare it with: its
    headers and dims, its tokenizer, its values, and a forward pass on a few
    prompts, which must be finite, better than guessing and not repeat itself;
    of a GGUF file the same through llama.cpp, where that is installed.

    Exits 0 when it is right or merely doubtful, 1 when it is wrong, 3 when it
    could not be run.

    \b
    Examples:
      rosetta check model.gguf
      rosetta check hf-folder --strict --json check.json
    """
    if json is not None:
        check_target(json)
    from rosetta.inspection.check import check as checked  # imports torch: not at the program's start
    from rosetta.inspection.check_text import render

    with Terminal(quiet=quiet) as listener:
        found = checked(file, listener.working)
    if json != STDOUT:
        text = render(found, width())
        show(text.splitlines()[-1] + "\n" if quiet else text)
    if json is not None:
        deliver(found.to_json(), json)
    raise typer.Exit(1 if strict and found.verdict == "doubtful" else EXIT_CODES[found.verdict])
