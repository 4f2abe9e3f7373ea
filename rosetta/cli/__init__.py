"""The command line: finds its commands, one file each, runs one, and says every error in one line."""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from rosetta import __version__
from rosetta.cli.memory import keep_freed_memory
from rosetta.cli.outputs import deliver_error, named_targets
from rosetta.cli.program import (
    DEFAULT_COMMAND,
    USAGE_ERROR,
    DefaultCompare,
    in_one_sentence,
    with_fitting_help,
)
from rosetta.errors import RosettaError

HELP = """Say whether two files that claim to be one language model compute the same, where they
first differ, and why, with a proof.

\b
Examples:
  rosetta model.apr model.gguf
  rosetta model.apr model.gguf --prompt "2+2=" --assert-match
  rosetta hf-folder model.gguf --json report.json
  rosetta inspect model.gguf --stats
"""
PASSED, USAGE, INTERRUPTED = 0, 2, 130
KILLED = 128  # and the signal's number: what a shell says of a program that one ended
ENDING = ("SIGTERM", "SIGHUP")
OBJECTS_AT_ONCE = (
    1_000_000  # new ones between two looks for garbage: imports make 300,000, and all of them stay
)


def main() -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without ✓ shows its code
    for name in ENDING:
        number = getattr(signal, name, None)  # Windows lacks SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores it
            signal.signal(number, _ended)
    gc.set_threshold(OBJECTS_AT_ONCE)
    keep_freed_memory()
    code = run(sys.argv[1:])
    gc.freeze()  # the end of the program is no time to look for garbage either: with torch it takes half a second
    sys.exit(code)


def _ended(number: int, frame: object) -> None:
    """End as if the program exited by itself: what is unfinished is removed on the way."""
    signal.signal(number, signal.SIG_DFL)  # the second time at once
    raise SystemExit(KILLED + number)


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: everything after the program's name.

    Returns:
        The exit code; every error has been said on stderr.
    """
    try:
        program = with_fitting_help(typer.main.get_command(_app(wanted_module(arguments))))
        code = program(args=list(arguments), prog_name="rosetta", standalone_mode=False)
        return _interrupted() if code == INTERRUPTED else code or PASSED
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except Exception as error:
        if sys.flags.dev_mode and not isinstance(error, (RosettaError, USAGE_ERROR, OSError)):
            raise  # python -X dev, PYTHONDEVMODE=1
        if isinstance(error, USAGE_ERROR):
            deliver_error(named_targets(arguments), error)  # no command has come to see its options
        return _said(in_one_sentence(error))


def wanted_module(arguments: Sequence[str]) -> str | None:
    """The module of the one command that a command line needs: the others take a third of a second to import.

    Returns:
        None where it takes all of them: for help, options of the program, and words that may be a command misspelt.
    """
    first = arguments[0] if arguments else "-"
    if first in (module.name for module in pkgutil.iter_modules(__path__)):
        return first if hasattr(importlib.import_module(f"{__name__}.{first}"), "command") else None
    unclear = first.startswith("-") or (first.isidentifier() and not os.path.lexists(first))
    return None if unclear else DEFAULT_COMMAND


def _app(only: str | None = None) -> typer.Typer:
    """The program with its commands: the modules of this package that have a function `command`.

    Args:
        only: the module of the one command that is going to run; None for all.
    """
    app = typer.Typer(
        cls=DefaultCompare,
        help=HELP,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: the same on every terminal, and quicker
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_program)
    names = sorted(module.name for module in pkgutil.iter_modules(__path__)) if only is None else [only]
    for name in names:
        imported = importlib.import_module(f"{__name__}.{name}")
        if hasattr(imported, "command"):
            imported.command(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"rosetta {__version__}")
        raise typer.Exit(PASSED)


def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself; each exits by itself."""


def _said(message: str) -> int:
    """Say what went wrong, in one line; returns the exit code of it."""
    print(f"rosetta: {message}", file=sys.stderr)
    return USAGE


def _interrupted() -> int:
    print("rosetta: interrupted", file=sys.stderr)
    return INTERRUPTED
