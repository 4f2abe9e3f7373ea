"""The program's grammar: `compare` is what is meant where no command is named; help fits the screen."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from rosetta.errors import RosettaError, is_out_of_memory, one_line
from rosetta.report.screen import wrapped

DEFAULT_COMMAND = "compare"
OF_THE_PROGRAM = ("--help", "-h", "--version", "--install-completion", "--show-completion")
USAGE_ERROR: Any = typer.BadParameter.__base__  # click's UsageError, of whichever click typer brings
WIDEST, NARROWEST = 80, 24  # columns of a help text
OPTION_COLUMN = 30  # of options and their values; narrower where the screen is
EXIT_CODES = """\b
Exit codes:
  0  matched, drifted as the dtypes explain, or nothing was asserted
  1  what was asserted or looked for is wrong
  2  usage error, or an input that is missing, damaged or unsupported
  3  asserted, and nothing could be judged
"""


def _formatter(context: Any) -> Any:
    """The formatter of whichever click typer brings, as wide as the screen."""
    base: Any = context.formatter_class
    columns = max(NARROWEST, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))

    class Formatter(base):  # type: ignore[misc]
        """Definition lists that leave room for the definition."""

        def write_dl(
            self, rows: Sequence[tuple[str, str]], col_max: int = OPTION_COLUMN, col_spacing: int = 2
        ) -> None:
            super().write_dl(rows, min(col_max, columns // 3), col_spacing)

        def getvalue(self) -> str:
            return wrapped(super().getvalue(), columns)  # examples are no paragraphs, and as long as they are

    return Formatter(width=columns, max_width=columns)


class Context(typer.Context):
    """A context whose help fits the screen."""

    def make_formatter(self) -> Any:
        """See click."""
        return _formatter(self)


class DefaultCompare(TyperGroup):
    """`rosetta LEFT RIGHT` is `rosetta compare LEFT RIGHT`, in the help text too."""

    context_class = Context

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Arguments with the command's name in front, where they name none."""
        if not args and not ctx.resilient_parsing:  # a shell completes from nothing
            raise USAGE_ERROR("two operands are needed, LEFT and RIGHT")
        named = not args or args[0] in self.commands or args[0] in OF_THE_PROGRAM
        if not named and (meant := self._meant(args[0])):
            raise USAGE_ERROR(
                f"no command is called {args[0]!r}, and no file: did you mean {ctx.command_path} {meant}?"
            )
        return super().parse_args(ctx, args if named else [DEFAULT_COMMAND, *args])

    def _meant(self, word: str) -> str | None:
        """The command that a word which is no path was likely to be."""
        if not word.isidentifier() or os.path.lexists(word):
            return None
        return next(iter(difflib.get_close_matches(word, self.commands, 1)), None)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the program's name in the usage line."""
        return ["LEFT RIGHT [OPTIONS]", "| COMMAND [ARGS]..."]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The options of a comparison, of the program, and the commands."""
        records = [option.get_help_record(ctx) for option in self.commands[DEFAULT_COMMAND].get_params(ctx)]
        with formatter.section("Comparing"):
            formatter.write_dl([record for record in records if record and "--help" not in record[0]])
        super().format_options(ctx, formatter)


def with_fitting_help(command: Any) -> Any:
    """A command, and all below it, with help that fits the screen and says the exit codes."""
    command.context_class = Context
    command.epilog = command.epilog or EXIT_CODES
    for below in getattr(command, "commands", {}).values():
        with_fitting_help(below)
    return command


def in_one_sentence(error: Exception) -> str:
    """What went wrong, for the person at the terminal, without a line break."""
    if isinstance(error, RosettaError):
        return one_line(str(error))
    if isinstance(error, USAGE_ERROR):
        return one_line(_in_words(error))
    if isinstance(error, OSError):
        return one_line(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
    if is_out_of_memory(error):
        return one_line(
            f"out of memory{_asked_for(error)}: run it where more is free, or allow it more (ulimit, --memory)"
        )
    where = _innermost(error)
    return one_line(
        f"internal error in {where}: {type(error).__name__}: {error}: please report it with the command; "
        "with PYTHONDEVMODE=1 it shows the traceback"
    )


def _asked_for(error: Exception) -> str:
    """How much was asked for last, where the error says so, in brackets."""
    found = re.search(r"allocate ([0-9.]+ ?(?:[KMGTP]i?B|bytes))", str(error))
    return f" ({found[1]} more were asked for)" if found else ""


def _in_words(error: Any) -> str:
    """A usage error in one sentence, with what to do about it."""
    said = " ".join(error.format_message().split()).rstrip(".")
    missing = getattr(getattr(error, "param", None), "name", None)
    left = error.ctx.params.get("left") if error.ctx is not None and missing == "right" else None
    if left:
        return f"{left} is one operand, and two are compared, LEFT and RIGHT: rosetta check {left} judges one by itself"
    return said if said.endswith("?") else f"{said}: rosetta --help says more"


def _innermost(error: BaseException) -> str:
    """Module and line that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
