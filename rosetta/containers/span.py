"""Which bytes of a tensor a read asks for."""

from __future__ import annotations

from rosetta.containers.container import TensorEntry


def slice_of(entry: TensorEntry, start: int, nbytes: int | None) -> tuple[int, int]:
    """Start and size in bytes, within the tensor; all from `start` where `nbytes` is None.

    Raises:
        ValueError: the bytes asked for are not the tensor's.
    """
    size = entry.nbytes - start if nbytes is None else nbytes
    if start < 0 or size < 0 or start + size > max(entry.nbytes, entry.room or 0):
        raise ValueError(
            f"bytes {start} to {start + size} of tensor {entry.name!r}, which has {entry.nbytes}"
        )
    return start, size
