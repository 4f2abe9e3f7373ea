"""The process in which llama.cpp goes on with tokens: requests on stdin, logits on stdout, what it prints on stderr."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rosetta.runtimes.llamacpp.child import failure_of, main
from rosetta.runtimes.llamacpp.context import Context
from rosetta.runtimes.llamacpp.frames import receive, send
from rosetta.runtimes.observed.capture import Facts


def serve(request: dict[str, Any], source: BinaryIO, out: BinaryIO) -> None:
    """Load a file and compute the tokens that are asked for, until the pipe ends.

    Args:
        request: path, tokens (the most that there may be), options.
        source: requests: ids, the first one's position (0 begins anew), of how many of the last the logits are wanted.
        out: facts first, then logits, [wanted, V].
    """
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
    except Exception as error:  # whatever it is, the parent is told in words
        send(out, {"failure": failure_of(error)})


if __name__ == "__main__":
    main(serve)
