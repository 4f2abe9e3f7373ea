"""Tensor data of the other byte order turned round: only the fields wider than a byte move."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from rosetta.dtypes import DTYPES

NATIVE = "<" if sys.byteorder == "little" else ">"


def swap_in_place(dtype: str, data: NDArray[np.uint8], start: int = 0) -> None:
    """Turn the byte order of whatever whole fields lie in `data`; done twice, it is undone.

    Args:
        dtype: a name of `DTYPES`.
        data: uint8 `[bytes]`, a stretch of the tensor's data that begins and ends between blocks.
        start: byte of the tensor at which the stretch begins.

    Raises:
        ValueError: the stretch cuts a block.
    """
    size = DTYPES[dtype].type_size
    if start % size or data.nbytes % size:
        raise ValueError(f"bytes {start} to {start + data.nbytes} cut a block of {dtype}")
    blocks = data.reshape(-1, size)
    for offset, width, count in DTYPES[dtype].wide:
        part = blocks[:, offset : offset + width * count].reshape(-1, count, width)
        blocks[:, offset : offset + width * count] = part[:, :, ::-1].reshape(-1, width * count)
