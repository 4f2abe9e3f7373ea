"""The process in which llama.cpp runs: a request on stdin, stages on stdout, what llama.cpp prints on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

from numpy.typing import NDArray

from rosetta.runtimes.llamacpp.context import LoadError
from rosetta.runtimes.llamacpp.frames import receive, send
from rosetta.runtimes.observed.capture import Facts, Float32

Serve = Callable[[dict[str, Any], BinaryIO, BinaryIO], None]
"""Of the first request, of where more may come from and of where answers go, all that is wanted."""


def main(serve: Serve) -> None:
    """Serve one request, and what it leads to, and end."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not print into the frames
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with suppress(
        OSError
    ):  # where memory ends, the system ends this process first, not the one that reports it
        Path("/proc/self/oom_score_adj").write_text("1000")
    asked = receive(sys.stdin.buffer)
    if asked is not None:
        serve(asked[0], sys.stdin.buffer, out)


def _end_with(parent: int) -> None:
    """End when the parent has, however it ended: what llama.cpp computes may never end."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def serve(request: dict[str, Any], source: BinaryIO, out: BinaryIO) -> None:
    """Run a file and hand on its stages.

    Args:
        request: path, ids, options, and the names of the stages to be replaced.
        source: where their values come from, each when it is asked for.
        out: where the stages go.
    """
    from rosetta.runtimes.llamacpp.session import Session

    facts = Facts("llamacpp")
    replaced = set(request["overwrite"])

    def hand_on(stage: str, value: Float32) -> NDArray[Any] | None:
        send(out, {"stage": stage}, value)
        if stage not in replaced:
            return None
        answer = receive(source)
        return answer[1] if answer is not None else None

    failure = None
    try:
        session = Session(Path(request["path"]), len(request["ids"]), request["options"], facts)
        expected = session.prepare(request["ids"])
        send(out, {"expected": expected, "rope": facts.rope})
        session.run(request["ids"], hand_on)
    except Exception as error:  # whatever it is, the parent is told in words
        failure = failure_of(error)
    send(out, {"facts": asdict(facts) | {"failure": failure}})


def failure_of(error: Exception) -> dict[str, str]:
    """What the parent is told of an exception: the fields of a `Failure`."""
    if isinstance(error, LoadError):
        return {"kind": "load", "message": str(error)}
    return {"kind": "run", "message": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main(serve)
