"""Where results go: text (coloured on a terminal), files (whole or not at all), logs and progress."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from rosetta.compare.listener import Listener, LoadedTensor
from rosetta.errors import UsageError, one_line

if TYPE_CHECKING:
    from rich.console import Console

STDOUT = "-"
HEARTBEAT = 10.0  # seconds between two lines about work that takes long, where there is no progress bar
NARROWEST = 20  # columns; a screen that says it has fewer has no size


def show(text: str, *, to_stderr: bool = False) -> None:
    """Print rendered text: with colours where a person watches, no wider than the screen, in marks that it has.

    Args:
        text: lines, each ended by a line break.
        to_stderr: whether stdout belongs to something else.
    """
    stream = sys.stderr if to_stderr else sys.stdout
    text = _fitted(text, to_stderr=to_stderr)
    if not _is_coloured(stream):
        return _write(stream, text)
    from rosetta.report.text import coloured

    with _quiet_pipe(stream):
        _console(stream).print(coloured(_spelled(stream, text)), end="", soft_wrap=True)


def _fitted(text: str, *, to_stderr: bool) -> str:
    """Text cut into lines that the screen has room for."""
    columns = width(to_stderr=to_stderr)
    if columns is None:
        return text
    from rosetta.report.screen import wrapped

    return wrapped(text, columns)


def width(*, to_stderr: bool = False) -> int | None:
    """Columns of the screen that results go to; None where they go to a pipe or a file."""
    stream = sys.stderr if to_stderr else sys.stdout
    if stream is None or not stream.isatty():
        return None
    return max(NARROWEST, shutil.get_terminal_size().columns)


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
        shows_layer: of which layers; None of what is outside them.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        each: bool = False,
        shows_layer: Callable[[int | None], bool] = lambda layer: True,
    ) -> None:
        self.quiet, self.each, self.shows_layer = quiet, each, shows_layer
        self._started = self._said = time.monotonic()
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if not self.quiet and sys.stderr is not None and sys.stderr.isatty():
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
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
        from rosetta.report.folding import layer_of
        from rosetta.report.load_log import load_log

        if self.each:
            tensors = [tensor for tensor in tensors if self.shows_layer(layer_of(tensor.name))]
        text = "".join(one_line(line) + "\n" for line in load_log(label, tensors, each=self.each))
        if self._progress is None:
            _write(sys.stderr, text)
        else:
            text = _fitted(text, to_stderr=True)
            self._progress.console.print(text, end="", soft_wrap=True, markup=False, highlight=False)

    def working(self, what: str, done: int, total: int) -> None:
        """Move the progress bar; where nobody watches one, say now and then how far it is and how long it takes."""
        if self._progress is None:
            self._say(what, done, total)
            return
        if self._task is None:
            self._task = self._progress.add_task(what, total=None)
        self._progress.update(self._task, description=one_line(what), completed=done, total=total or None)

    def _say(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self.quiet or now - self._said < HEARTBEAT:
            return
        self._said = now
        spent = now - self._started
        left = f", about {spent / done * (total - done):.0f} s left" if 0 < done < total else ""
        far = f" of {total}" if total else ""
        _write(sys.stderr, f"[ROSETTA] {one_line(what)}{far}: {spent:.0f} s so far{left}\n")


def _write(stream: TextIO | None, text: str) -> None:
    with _quiet_pipe(stream):
        if stream is not None:
            stream.write(_spelled(stream, text))
            stream.flush()


@contextlib.contextmanager
def _quiet_pipe(stream: TextIO | None) -> Any:
    """Whoever reads our output may have seen enough (`| head`): the exit code is still ours to give."""
    try:
        yield
    except BrokenPipeError:
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # nor may Python complain on exit


def _spelled(stream: TextIO, text: str) -> str:
    """Text with marks that the stream has: in a locale or an encoding without them, in ASCII."""
    from rosetta.report.screen import MARKS, in_ascii

    try:
        "".join(MARKS).encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return in_ascii(text)
    return in_ascii(text) if _is_plain_locale() else text


def _is_plain_locale() -> bool:
    """Whether a person has asked for ASCII: `LANG=C`, which Python answers with UTF-8 all the same (PEP 538, 540)."""
    if os.environ.get("PYTHONIOENCODING") or os.environ.get("PYTHONUTF8") == "1":
        return False
    coerced = os.environ.get("LC_CTYPE") == "C.UTF-8" and os.environ.get("LANG") == "C"
    names = ("LC_ALL", "LANG") if coerced else ("LC_ALL", "LC_CTYPE", "LANG")
    first = next((value for name in names if (value := os.environ.get(name))), "")
    return first in ("C", "POSIX")


def _is_coloured(stream: TextIO | None) -> bool:
    """Whether colours are wanted: https://no-color.org, https://force-color.org, and terminals that know none."""
    if stream is None or os.environ.get("NO_COLOR"):
        return False
    if _is_forced():
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _is_forced() -> bool:
    return os.environ.get("FORCE_COLOR", "") not in ("", "0")


def _console(stream: TextIO) -> Console:
    from rich.console import Console  # costs start-up time, and only a terminal needs it

    if not _is_forced():
        return Console(file=stream, highlight=False)
    known = os.environ.get("COLORTERM", "") in ("truecolor", "24bit")
    return Console(
        file=stream, highlight=False, force_terminal=True, color_system="truecolor" if known else "standard"
    )
