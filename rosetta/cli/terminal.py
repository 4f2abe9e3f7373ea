"""Where results go: text (coloured on a terminal), files (whole or not at all), logs and progress."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from rosetta.compare.listener import Listener, LoadedTensor
from rosetta.errors import UsageError, one_line

if TYPE_CHECKING:
    from rich.console import Console

STDOUT = "-"


def show(text: str, *, to_stderr: bool = False) -> None:
    """Print rendered text, with colours where a person watches.

    Args:
        text: lines, each ended by a line break.
        to_stderr: whether stdout belongs to something else.
    """
    stream = sys.stderr if to_stderr else sys.stdout
    if not _is_coloured(stream):
        return _write(stream, text)
    from rosetta.report.text import coloured

    with _quiet_pipe(stream):
        _console(stream).print(coloured(text), end="", soft_wrap=True)


def check_target(target: str) -> None:
    """Refuse a file that cannot be written, before the work whose result it is for.

    Raises:
        UsageError: its folder does not exist or may not be written to, or it is a folder itself.
    """
    if target == STDOUT:
        return
    path = Path(target)
    if path.is_dir():
        raise UsageError("is a folder", file=target, remedy="name a file in it")
    if not path.parent.is_dir():
        raise UsageError("its folder does not exist", file=target, remedy="make the folder first")
    if not os.access(path if path.exists() and not path.is_file() else path.parent, os.W_OK):
        raise UsageError("may not be written", file=target, remedy="choose another place")


def deliver(text: str, target: str) -> None:
    """Write a result to stdout (`-`) or to a file, which is there whole or not at all."""
    if target == STDOUT:
        return _write(sys.stdout, text)
    path = Path(target).resolve()  # a link stays a link
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")  # a device or a pipe cannot be replaced
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class Terminal(Listener):
    """Logs what is loaded and shows how far the work is, on stderr.

    Args:
        quiet: show nothing.
        each: a line of the load log for every tensor.
    """

    def __init__(self, *, quiet: bool = False, each: bool = False) -> None:
        self.quiet, self.each = quiet, each
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if not self.quiet and sys.stderr is not None and sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._progress = Progress(*columns, console=_console(sys.stderr), transient=True)
            try:
                self._progress.start()
                self.working("starting", 0, 0)  # importing torch takes the first second
            except BaseException:  # Ctrl-C before `with` is entered: nothing else gives the terminal back
                self._progress.stop()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def loaded(self, label: str, tensors: Iterable[LoadedTensor]) -> None:
        """Print the load log of a side."""
        if self.quiet:
            return
        from rosetta.report.load_log import load_log

        text = "".join(one_line(line) + "\n" for line in load_log(label, tensors, each=self.each))
        if self._progress is None:
            _write(sys.stderr, text)
        else:
            self._progress.console.print(text, end="", soft_wrap=True, markup=False, highlight=False)

    def working(self, what: str, done: int, total: int) -> None:
        """Move the progress bar."""
        if self._progress is None:
            return
        if self._task is None:
            self._task = self._progress.add_task(what, total=None)
        self._progress.update(self._task, description=one_line(what), completed=done, total=total or None)


def _write(stream: TextIO | None, text: str) -> None:
    with _quiet_pipe(stream):
        if stream is not None:
            stream.write(text)
            stream.flush()


@contextlib.contextmanager
def _quiet_pipe(stream: TextIO | None) -> Any:
    """Whoever reads our output may have seen enough (`| head`): the exit code is still ours to give."""
    try:
        yield
    except BrokenPipeError:
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # nor may Python complain on exit


def _is_coloured(stream: TextIO | None) -> bool:
    """Whether colours are wanted: https://no-color.org, and terminals that know none."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream is not None and stream.isatty() and not plain


def _console(stream: TextIO) -> Console:
    from rich.console import Console  # costs start-up time, and only a terminal needs it

    return Console(file=stream, highlight=False)
