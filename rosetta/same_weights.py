"""Whether two weights are the same, by their bytes or by their numbers, read no further than they differ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rosetta.dtypes import FLOATS
from rosetta.lazily import torch
from rosetta.weight import Weight, row_ranges
from rosetta.workers import spread


def same_bytes(
    a: Weight, b: Weight, seen: Callable[[tuple[int, int], NDArray[np.uint8]], None] | None = None
) -> bool:
    """Whether two weights of one dtype and shape hold the same canonical bytes.

    Args:
        a, b: the weights.
        seen: is given the rows of each range, (first, after the last), and the bytes that both have there.
    """
    if a.dtype != b.dtype or a.dims != b.dims:
        return False
    ranges = row_ranges(a)

    def same(part: tuple[int, int]) -> bool:
        left, right = a.raw(*part), b.raw(*part)
        if left is None or right is None:
            return bool(torch.equal(a.values(*part), b.values(*part)))
        if not _equal_bytes(left, right):
            return False
        if seen is not None:
            seen(part, left)
        return True

    if not all(same(part) for part in ranges[:1]):  # what differs mostly does so from its first rows on
        return False
    return all(spread(same, ranges[1:]))


def same_values(a: Weight, b: Weight) -> bool:
    """Whether two weights hold the same numbers: the same bytes, or equal ones in two floats."""
    if a.dims != b.dims or not {a.dtype, b.dtype} <= {*FLOATS}:
        return same_bytes(a, b)
    return all(torch.equal(a.values(*rows), b.values(*rows)) for rows in row_ranges(a))


def same_stored_rows(a: Weight, b: Weight, start: int, stop: int) -> bool | None:
    """Whether rows start … stop of two weights of one dtype hold the same canonical bytes; None where rows are not
    whole bytes."""
    if a.dtype != b.dtype:
        return False
    left, right = a.raw(start, stop), b.raw(start, stop)
    if left is None or right is None:
        return None
    return _equal_bytes(left, right)


def _equal_bytes(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bool:
    if left.size % 8 == 0 and left.size == right.size:  # eight bytes at a time
        return bool(np.array_equal(left.reshape(-1).view(np.uint64), right.reshape(-1).view(np.uint64)))
    return bool(np.array_equal(left, right))
