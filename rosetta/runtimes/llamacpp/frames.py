"""What parent and child say to each other: a line of JSON, its length before it, and bare numbers after it."""

from __future__ import annotations

import json
import struct
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

LENGTH = struct.Struct("<I")
MOST = 1 << 28  # bytes of a header: a long config, and no more


def send(stream: IO[bytes], header: dict[str, Any], values: NDArray[Any] | None = None) -> None:
    """Write one frame.

    Args:
        stream: a pipe.
        header: JSON values only.
        values: float32 to follow, or None.
    """
    if values is not None:
        values = np.ascontiguousarray(values, dtype="<f4")
        header = header | {"dims": list(values.shape)}
    text = json.dumps(header).encode()
    stream.write(LENGTH.pack(len(text)) + text)
    if values is not None and values.size:
        stream.write(values.data.cast("B"))
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], NDArray[np.float32] | None] | None:
    """Read one frame: header and values; None at the end of the pipe."""
    start = stream.read(LENGTH.size)
    if len(start) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(start)
    text = stream.read(min(length, MOST))
    if len(text) < length:
        return None
    header = json.loads(text)
    if "dims" not in header:
        return header, None
    values = np.empty([int(n) for n in header["dims"]], dtype="<f4")
    if values.nbytes:
        place, done = values.data.cast("B"), 0
        while done < values.nbytes:
            count = stream.readinto(place[done:])  # type: ignore[attr-defined]
            if not count:
                return None
            done += count
    return header, values
