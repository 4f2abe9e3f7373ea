"""The llama.cpp runtime: a GGUF file run by llama.cpp itself, in a process of its own, its stages observed.

A file on which llama.cpp aborts is a fact about that file, never the end of this process.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from rosetta.errors import UsageError
from rosetta.runtimes.llamacpp.frames import receive, send
from rosetta.runtimes.llamacpp.options import DEFAULTS, checked
from rosetta.runtimes.observed.capture import Facts, Failure, Overwrite, Stage, by_layer

OPTIONS = frozenset(DEFAULTS)
TAIL = 4000  # characters of what it printed


class LlamaCppCapture:
    """One run of a file by llama.cpp; iterate for its stages, then read the facts.

    Args:
        path: a GGUF file.
        ids: tokens.
        options: see `options.py`.
        overwrite: stage -> values to go on with in its place. What the iteration gives is what was computed.

    Raises:
        UsageError: llama-cpp-python is not installed, or an option is unknown.
    """

    def __init__(
        self,
        path: Path,
        ids: Sequence[int],
        options: Mapping[str, Any] | None = None,
        overwrite: Overwrite | None = None,
    ) -> None:
        if importlib.util.find_spec("llama_cpp") is None:
            raise UsageError("llama.cpp is not installed", remedy="pip install 'rosetta-trace[llamacpp]'")
        self.path, self.ids = Path(path), [int(i) for i in ids]
        self.options, self.overwrite = checked(options or {}), overwrite or {}
        self.facts = Facts("llamacpp", options=dict(self.options))

    def __iter__(self) -> Iterator[Stage]:
        """Stages in order; a run that fails ends early, and `facts.failure` says why."""
        with tempfile.TemporaryFile() as printed:
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
            child = subprocess.Popen(
                [sys.executable, "-m", "rosetta.runtimes.llamacpp.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                env=environment,
            )
            try:
                yield from self._stages(child, printed)
            finally:
                child.kill()
                child.wait()
                for pipe in (child.stdin, child.stdout):
                    if pipe is not None:
                        pipe.close()

    def _stages(self, child: subprocess.Popen[bytes], printed: IO[bytes]) -> Iterator[Stage]:
        assert child.stdin is not None
        assert child.stdout is not None
        request = {
            "path": os.fspath(self.path),
            "ids": self.ids,
            "options": self.options,
            "overwrite": list(self.overwrite),
        }
        try:
            send(child.stdin, request)
            frame = receive(child.stdout)
            if frame is not None and "expected" in frame[0]:
                yield from by_layer(self._frames(child), frame[0]["expected"])
            elif frame is not None:
                self._learn(frame[0])
        except BrokenPipeError:
            pass  # it is dead, and says why below
        if not self.complete:
            self._crashed(child, printed)

    complete = False

    def _frames(self, child: subprocess.Popen[bytes]) -> Iterator[Stage]:
        assert child.stdin is not None
        assert child.stdout is not None
        while (frame := receive(child.stdout)) is not None:
            header, values = frame
            if "facts" in header:
                self._learn(header)
                return
            stage = header["stage"]
            assert values is not None
            if stage in self.overwrite:
                send(child.stdin, {}, self.overwrite[stage])
            yield stage, values

    def _learn(self, header: dict[str, Any]) -> None:
        facts = header["facts"]
        failure = facts.pop("failure")
        self.facts = Facts(**facts)
        self.facts.failure = Failure(**failure) if failure else None
        self.complete = True

    def _crashed(self, child: subprocess.Popen[bytes], printed: IO[bytes]) -> None:
        code = child.wait()
        printed.seek(0)
        said = printed.read().decode(errors="replace")[-TAIL:]
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if "GGML_ASSERT" in line or "error" in line.lower()), ""
        )
        path, colon, said_there = reason.partition(": ")
        reason = path.rpartition("/")[2] + colon + said_there  # of its source's path, the file
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.facts.failure = Failure(
            "crash", f"llama.cpp ended with {name}{': ' + reason if reason else ''}", said
        )


capture = LlamaCppCapture
