"""The command line: finds its commands, one file each, runs one, and says every error in one line."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rosetta import __version__
from rosetta.cli.memory import keep_freed_memory
from rosetta.errors import RosettaError, one_line

HELP = """Say whether two files that claim to be one language model compute the same, where they
first differ, and why, with a proof.

\b
Examples:
  rosetta model.apr model.gguf
  rosetta model.apr model.gguf --prompt "2+2=" --assert-match
  rosetta hf-folder model.gguf --json report.json
  rosetta inspect model.gguf --stats
"""
DEFAULT_COMMAND = "compare"
OF_THE_PROGRAM = ("--help", "-h", "--version")
PASSED, USAGE, INTERRUPTED = 0, 2, 130
OBJECTS_AT_ONCE = 100_000  # new ones between two looks for garbage: imports make many, and all of them stay
USAGE_ERROR: Any = typer.BadParameter.__base__  # click's UsageError, of whichever click typer brings


class DefaultCompare(TyperGroup):
    """`rosetta LEFT RIGHT` is `rosetta compare LEFT RIGHT`, in the help text too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Arguments with the command's name in front, where they name none."""
        if not args:
            raise USAGE_ERROR("two operands are needed, LEFT and RIGHT")
        named = args[0] in self.commands or args[0] in OF_THE_PROGRAM
        return super().parse_args(ctx, args if named else [DEFAULT_COMMAND, *args])

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the program's name in the usage line."""
        return ["LEFT RIGHT [OPTIONS]", "| COMMAND [ARGS]..."]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The options of a comparison, of the program, and the commands."""
        records = [option.get_help_record(ctx) for option in self.commands[DEFAULT_COMMAND].get_params(ctx)]
        with formatter.section("Comparing"):
            formatter.write_dl([record for record in records if record and "--help" not in record[0]])
        super().format_options(ctx, formatter)


def main() -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without ✓ shows its code
    gc.set_threshold(OBJECTS_AT_ONCE)
    keep_freed_memory()
    code = run(sys.argv[1:])
    gc.freeze()  # the end of the program is no time to look for garbage either: with torch it takes half a second
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: everything after the program's name.

    Returns:
        The exit code; every error has been said on stderr.
    """
    try:
        code = typer.main.get_command(_app())(
            args=list(arguments), prog_name="rosetta", standalone_mode=False
        )
        return _interrupted() if code == INTERRUPTED else code or PASSED
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except RosettaError as error:
        return _said(str(error))
    except USAGE_ERROR as error:
        return _said(f"{' '.join(error.format_message().split()).rstrip('.')}: rosetta --help says more")
    except OSError as error:
        return _said(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
    except Exception as error:
        if sys.flags.dev_mode:  # python -X dev, PYTHONDEVMODE=1
            raise
        where = _innermost(error)
        return _said(
            f"internal error in {where}: {type(error).__name__}: {error}: please report it with the command; "
            "with PYTHONDEVMODE=1 it shows the traceback"
        )


def _app() -> typer.Typer:
    """The program with all its commands: the modules of this package that have a function `command`."""
    app = typer.Typer(
        cls=DefaultCompare,
        help=HELP,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: the same on every terminal, and quicker
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    )
    app.callback()(_program)
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        imported = importlib.import_module(f"{__name__}.{module.name}")
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
    print(f"rosetta: {one_line(message)}", file=sys.stderr)
    return USAGE


def _interrupted() -> int:
    print("rosetta: interrupted", file=sys.stderr)
    return INTERRUPTED


def _innermost(error: BaseException) -> str:
    """Module and line that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
