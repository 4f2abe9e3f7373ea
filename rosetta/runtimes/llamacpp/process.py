"""The child process in which llama.cpp runs, from the parent's side: frames to and fro, and how it died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from threading import Thread, Timer
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rosetta.runtimes.llamacpp.frames import receive, send
from rosetta.runtimes.observed.capture import Failure

TAIL = 4000  # characters of what it printed
PIECE = 1 << 12  # bytes that are read of it at once
PATIENCE = 600.0  # seconds without a word, and those of reading the file
SLOWEST = 10e6  # bytes that a slow disk gives in a second


class Process:
    """A module of ours run by a Python of its own, which llama.cpp may abort.

    Args:
        module: reads frames on stdin, writes frames on stdout.
        file: what it runs; on one that it hangs on it is ended.
    """

    def __init__(self, module: str, file: Path) -> None:
        self._printed: deque[bytes] = deque(maxlen=2 + 4 * TAIL // PIECE)  # it may print without end
        self._patience = PATIENCE + (file.stat().st_size / SLOWEST if file.is_file() else 0.0)
        self._hung = False
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._child = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self._listening = Thread(target=self._listen, daemon=True)
        self._listening.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def send(self, header: dict[str, Any], values: NDArray[Any] | None = None) -> None:
        """Say something to it.

        Raises:
            BrokenPipeError: it is dead.
        """
        assert self._child.stdin is not None
        send(self._child.stdin, header, values)

    def receive(self) -> tuple[dict[str, Any], NDArray[np.float32] | None] | None:
        """What it says next; None where it is dead, or says nothing for so long that it hangs."""
        assert self._child.stdout is not None
        watch = Timer(self._patience, self._lose_patience)
        watch.daemon = True
        watch.start()
        try:
            return receive(self._child.stdout)
        finally:
            watch.cancel()

    def _lose_patience(self) -> None:
        self._hung = True
        self._child.kill()

    def _listen(self) -> None:
        """Keep the last of what it prints."""
        assert self._child.stderr is not None
        while piece := os.read(self._child.stderr.fileno(), PIECE):
            self._printed.append(piece)

    def crashed(self) -> Failure:
        """How it died, in one sentence, with what it printed last."""
        code = self._child.wait()
        self._listening.join(timeout=5.0)  # a debugger that it started may outlive it
        said = b"".join(self._printed).decode(errors="replace")[-TAIL:]
        if self._hung:
            return Failure("crash", f"llama.cpp said nothing for {self._patience:.0f} s and was ended", said)
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if "GGML_ASSERT" in line or "error" in line.lower()), ""
        )
        path, colon, said_there = reason.partition(": ")
        reason = path.rpartition("/")[2] + colon + said_there  # of its source's path, the file
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Failure("crash", f"llama.cpp ended with {name}{': ' + reason if reason else ''}", said)

    def end(self) -> None:
        """End it, whatever it does."""
        self._child.kill()
        self._child.wait()
        self._listening.join(timeout=5.0)
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()
