"""The child process in which llama.cpp runs, from the parent's side: frames to and fro, and how it died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rosetta.runtimes.llamacpp.frames import receive, send
from rosetta.runtimes.observed.capture import Failure

TAIL = 4000  # characters of what it printed


class Process:
    """A module of ours run by a Python of its own, which llama.cpp may abort.

    Args:
        module: reads frames on stdin, writes frames on stdout.
    """

    def __init__(self, module: str) -> None:
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._child = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            env=environment,
        )

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
        """What it says next; None where it is dead."""
        assert self._child.stdout is not None
        return receive(self._child.stdout)

    def crashed(self) -> Failure:
        """How it died, in one sentence, with what it printed last."""
        code = self._child.wait()
        self._printed.seek(0)
        said = self._printed.read().decode(errors="replace")[-TAIL:]
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
        for pipe in (self._child.stdin, self._child.stdout, self._printed):
            if pipe is not None and not pipe.closed:
                pipe.close()
