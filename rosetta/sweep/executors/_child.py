"""The child process of one job: started, limited, and judged by how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from rosetta.errors import UsageError
from rosetta.sweep.executors import Outcome
from rosetta.sweep.job import Job

MAIN = "rosetta.sweep.executors._child_main"
LAST = 8192  # bytes of stderr in which its last line is looked for
PATIENCE = 5.0  # seconds between asking a process to end and ending it


class Child:
    """A running job.

    Args:
        job: to run.
        report: where its report goes, as an absolute path.
        root: the folder that operands are seen from.
        memory: bytes that it may allocate; None: no limit.
        threads: of its arithmetic; None: as it sees fit.
    """

    def __init__(self, job: Job, report: Path, root: Path, memory: int | None, threads: int | None) -> None:
        self.job, self.started, self._said = job, time.monotonic(), _scratch()
        command = [sys.executable, "-P", "-m", MAIN, *job.arguments(str(report))]
        self.process = subprocess.Popen(
            command,
            cwd=root,
            env=_environment(threads),
            stdin=subprocess.PIPE,  # held open for as long as we are there
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )
        assert self.process.stdin is not None
        self._held = self.process.stdin
        if memory is not None:
            limit_memory(self.process.pid, memory)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.started

    def ended(self) -> Outcome | None:
        """How it ended; None while it runs."""
        code = self.process.poll()
        return None if code is None else self._outcome(code, self._last_line())

    def stop(self, why: str) -> Outcome:
        """End it now.

        Args:
            why: what its report will say.
        """
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return self._outcome(None, why)

    def _outcome(self, code: int | None, said: str) -> Outcome:
        if code is not None and code < 0:
            said = f"its process was ended by {signal_name(-code)}{f' ({said})' if said else ''}"
        self._said.close()
        self._held.close()
        return Outcome(self.job, code, said, self.seconds)

    def _last_line(self) -> str:
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - LAST))
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].removeprefix("rosetta: ") if lines else ""


def _scratch() -> IO[bytes]:
    return tempfile.TemporaryFile()


def _environment(threads: int | None) -> Mapping[str, str]:
    """Ours; arithmetic of several children at once would only wait for each other with a thread a core each."""
    return dict(os.environ) if threads is None else {"OMP_NUM_THREADS": str(threads), **os.environ}


def limit_memory(pid: int, memory: int) -> None:
    """Let a process allocate so much and no more; files that it maps do not count.

    Raises:
        UsageError: this system cannot.
    """
    try:
        from resource import RLIMIT_DATA, prlimit  # type: ignore[attr-defined, unused-ignore]
    except ImportError as error:
        raise UsageError("--memory needs Linux", remedy="leave it out") from error
    try:
        prlimit(pid, RLIMIT_DATA, (memory, memory))
    except ProcessLookupError:
        return  # it has ended already


def signal_name(number: int) -> str:
    """SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
