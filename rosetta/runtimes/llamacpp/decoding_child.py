"""The process in which llama.cpp goes on with tokens: requests on stdin, logits on stdout, what it prints on stderr."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rosetta.runtimes.llamacpp.frames import receive, send
from rosetta.runtimes.observed.capture import Facts


def main() -> None:
    """Load what the first request names, then answer each further one, until the pipe ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not print into the frames
    asked = receive(sys.stdin.buffer)
    if asked is not None:
        serve(asked[0], sys.stdin.buffer, out)


def serve(request: dict[str, Any], source: BinaryIO, out: BinaryIO) -> None:
    """Load a file and compute the tokens that are asked for.

    Args:
        request: path, tokens (the most that there may be), options.
        source: requests: ids, the first one's position (0 begins anew), of how many of the last the logits are wanted.
        out: facts first, then logits, [wanted, V].
    """
    from rosetta.runtimes.llamacpp.context import Context, LoadError

    facts = Facts("llamacpp")
    try:
        context = Context(Path(request["path"]), request["tokens"], request["options"], facts)
        send(out, {"facts": asdict(facts)})
        while (asked := receive(source)) is not None:
            ids, start, wanted = (asked[0][key] for key in ("ids", "start", "wanted"))
            if start == 0:
                context.clear()
            context.decode(ids, start, wanted)
            send(out, {}, np.stack([context.logits(i) for i in range(len(ids) - wanted, len(ids))]))
    except LoadError as error:
        send(out, {"failure": {"kind": "load", "message": str(error)}})
    except Exception as error:  # whatever it is, the parent is told in words
        send(out, {"failure": {"kind": "run", "message": f"{type(error).__name__}: {error}"}})


if __name__ == "__main__":
    main()
