"""The llama.cpp runtime: a GGUF file run by llama.cpp itself, in a process of its own, its stages observed.

A file on which llama.cpp aborts is a fact about that file, never the end of this process.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rosetta.errors import UsageError
from rosetta.runtimes.decoding import RuntimeFailed
from rosetta.runtimes.llamacpp.options import DEFAULTS, checked
from rosetta.runtimes.llamacpp.process import Process
from rosetta.runtimes.llamacpp.refusals import in_words
from rosetta.runtimes.observed.capture import Facts, Failure, Float32, Overwrite, Stage, by_layer

OPTIONS = frozenset(DEFAULTS)


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
        refuse_missing()
        self.path, self.ids = Path(path), [int(i) for i in ids]
        self.options, self.overwrite = checked(options or {}), overwrite or {}
        self.facts = Facts("llamacpp", options=dict(self.options))

    def __iter__(self) -> Iterator[Stage]:
        """Stages in order; a run that fails ends early, and `facts.failure` says why."""
        with Process("rosetta.runtimes.llamacpp.child", self.path) as child:
            try:
                child.send(
                    {
                        "path": os.fspath(self.path),
                        "ids": self.ids,
                        "options": self.options,
                        "overwrite": list(self.overwrite),
                    }
                )
                frame = child.receive()
                if frame is not None and "expected" in frame[0]:
                    self.facts.rope = frame[0]["rope"]  # the stages are turned by it as they come
                    yield from by_layer(self._frames(child), frame[0]["expected"])
                elif frame is not None:
                    self._learn(frame[0])
            except BrokenPipeError:
                pass  # it is dead, and says why below
            if not self.complete:
                self.facts.failure = child.crashed()

    complete = False

    def _frames(self, child: Process) -> Iterator[Stage]:
        while (frame := child.receive()) is not None:
            header, values = frame
            if "facts" in header:
                self._learn(header)
                return
            stage = header["stage"]
            assert values is not None
            if stage in self.overwrite:
                child.send({}, self.overwrite[stage])
            yield stage, values

    def _learn(self, header: dict[str, Any]) -> None:
        facts = header["facts"]
        failure = facts.pop("failure")
        self.facts = Facts(**facts)
        self.facts.failure = in_words(Failure(**failure), self.path) if failure else None
        self.complete = True


class LlamaCppDecoder:
    """A file that llama.cpp goes on with, token by token; see `runtimes.decoding.Decoder`.

    Args:
        path: a GGUF file.
        tokens: how many there may be.
        options: see `options.py`.

    Raises:
        UsageError: llama-cpp-python is not installed, or an option is unknown.
        RuntimeFailed: llama.cpp does not take the file, or aborts on it.
    """

    def __init__(self, path: Path, tokens: int, options: Mapping[str, Any] | None = None) -> None:
        refuse_missing()
        self.facts = Facts("llamacpp", options=dict(checked(options or {})))
        self.process = Process("rosetta.runtimes.llamacpp.decoding_child", path)
        self.path, self._start = Path(path), 0
        asked = {"path": os.fspath(path), "tokens": tokens, "options": self.facts.options}
        try:
            header, _ = self._answer(asked)
        except RuntimeFailed:
            self.close()
            raise
        self.facts = Facts(**header["facts"])

    def restart(self) -> None:
        """Forget the tokens so far."""
        self._start = 0

    def feed(self, ids: Sequence[int], last: int = 1) -> Float32:
        """Compute the next tokens; logits of the last of them, [last, V]."""
        _, logits = self._answer({"ids": [int(i) for i in ids], "start": self._start, "wanted": last})
        self._start += len(ids)
        assert logits is not None
        return logits

    def close(self) -> None:
        """End the process."""
        self.process.end()

    def _answer(self, asked: dict[str, Any]) -> tuple[dict[str, Any], Float32 | None]:
        try:
            self.process.send(asked)
            answer = self.process.receive()
        except BrokenPipeError:
            answer = None
        if answer is None:
            raise RuntimeFailed(self.process.crashed())
        if "failure" in answer[0]:
            failure = Failure(**answer[0]["failure"])
            raise RuntimeFailed(in_words(failure, self.path))
        return answer


def refuse_missing() -> None:
    """Raises:
    UsageError: llama-cpp-python is not installed.
    """
    if importlib.util.find_spec("llama_cpp") is None:
        raise UsageError("llama.cpp is not installed", remedy="pip install 'rosetta-trace[llamacpp]'")


capture, decoder = LlamaCppCapture, LlamaCppDecoder
