"""Tensor data of the other byte order turned round: only the fields wider than a byte move.

Which fields those are follows from the block structures of ggml-common.h; where a structure declares bytes
that ggml-quants.c reads and writes as one integer (IQ1_M, IQ2_XXS, IQ3_XXS), the integer moves.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from rosetta.containers.dtypes import BLOCKS

NATIVE = "<" if sys.byteorder == "little" else ">"

_Field = tuple[int, int, int]  # byte in the block, width, how many

FIELDS: dict[str, tuple[_Field, ...]] = {
    "Q1_0": ((0, 2, 1),),
    "Q4_0": ((0, 2, 1),),
    "Q4_1": ((0, 2, 2),),
    "Q5_0": ((0, 2, 1),),
    "Q5_1": ((0, 2, 2),),
    "Q8_0": ((0, 2, 1),),
    "Q8_1": ((0, 2, 2),),
    "Q2_K": ((80, 2, 2),),
    "Q3_K": ((108, 2, 1),),
    "Q4_K": ((0, 2, 2),),
    "Q5_K": ((0, 2, 2),),
    "Q6_K": ((208, 2, 1),),
    "Q8_K": ((0, 4, 1), (260, 2, 16)),
    "IQ1_S": ((0, 2, 1), (34, 2, 8)),
    "IQ1_M": ((48, 2, 4),),
    "IQ2_XXS": ((0, 2, 1), (2, 4, 16)),
    "IQ2_XS": ((0, 2, 1), (2, 2, 32)),
    "IQ2_S": ((0, 2, 1),),
    "IQ3_XXS": ((0, 2, 1), (66, 4, 8)),
    "IQ3_S": ((0, 2, 1),),
    "IQ4_NL": ((0, 2, 1),),
    "IQ4_XS": ((0, 2, 2),),
    "TQ1_0": ((52, 2, 1),),
    "TQ2_0": ((64, 2, 1),),
    "MXFP4": (),
    "NVFP4": (),
}


def swap_in_place(dtype: str, data: NDArray[np.uint8], start: int = 0) -> None:
    """Turn the byte order of whatever whole fields lie in `data`; done twice, it is undone.

    Args:
        dtype: a name of `BLOCKS`.
        data: uint8 `[bytes]`, a stretch of the tensor's data that begins and ends between blocks.
        start: byte of the tensor at which the stretch begins.

    Raises:
        ValueError: the stretch cuts a block.
    """
    size = BLOCKS[dtype][1]
    if start % size or data.nbytes % size:
        raise ValueError(f"bytes {start} to {start + data.nbytes} cut a block of {dtype}")
    blocks = data.reshape(-1, size)
    fields = FIELDS.get(dtype, ((0, size, 1),) if size > 1 else ())
    for offset, width, count in fields:
        part = blocks[:, offset : offset + width * count].reshape(-1, count, width)
        blocks[:, offset : offset + width * count] = part[:, :, ::-1].reshape(-1, width * count)
