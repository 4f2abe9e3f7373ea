"""Whether two copies are one quantisation whose scales are not the same.

An encoder chooses the codes of a block with its scale: of other scales there are other codes. Where the codes of nearly
all blocks are equal and the scales beside them are not, nothing was rounded a second time, and no rounding explains
what the copies differ by.

Letters: n = blocks, S = bytes of one, h = its float16 numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rosetta import blocks
from rosetta.dtypes import FLOATS, of_scheme
from rosetta.weight import Weight, row_ranges

SAMPLED, RUN = 4, 1 << 18  # ranges of rows, and weights of each
# Two encodings of one matrix, of its BF16 and its F32 copy, have scales that are apart by half a unit of BF16, and one
# of float16. At twice that, one weight of a block in four bits has another code on average.
APART = 2**-7
NEARLY_ALL = 0.9  # of the blocks


def of_one_quantisation(a: Weight, b: Weight) -> bool:
    """Whether nearly all blocks of two copies have equal codes under other scales, by some of their rows."""
    if a.dtype != b.dtype or a.dims != b.dims or a.dtype in FLOATS or of_scheme(a.dtype):
        return False
    block = blocks.block_format(a.dtype)
    if not block.halves:
        return False
    ranges = row_ranges(a, RUN)
    count = rescaled = 0
    for rows in ranges[:: max(1, -(-len(ranges) // SAMPLED))]:
        left, right = a.stored_raw(*rows), b.stored_raw(*rows)
        if left is None or right is None:
            return False
        x, y = (raw.reshape(-1, block.type_size) for raw in (left, right))
        count += len(x)
        rescaled += int((_same_codes(x, y, block.halves) & _other_scales(x, y, block.halves)).sum())
    return rescaled >= NEARLY_ALL * count > 0


def _same_codes(x: NDArray[np.uint8], y: NDArray[np.uint8], halves: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which blocks, uint8 [n, S], are equal but for their float16 numbers: bool [n]."""
    equal = x == y
    for start in halves:
        equal[:, start : start + 2] = True
    found: NDArray[np.bool_] = equal.all(axis=1)
    return found


def _other_scales(x: NDArray[np.uint8], y: NDArray[np.uint8], halves: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which blocks have a float16 number that is another one, bool [n]."""
    found = np.zeros(len(x), np.bool_)
    for start in halves:
        p, q = (
            np.ascontiguousarray(raw[:, start : start + 2]).view(np.float16)[:, 0].astype(np.float32)
            for raw in (x, y)
        )
        found |= ~(np.abs(p - q) <= APART * np.maximum(np.abs(p), np.abs(q)))
    return found
