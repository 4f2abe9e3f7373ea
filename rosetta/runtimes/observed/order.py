"""The order of rotary rows, which a runtime may choose freely: adjacent pairs, or the two halves of a head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the process of llama.cpp places stages, and would wait two seconds for torch
    from torch import Tensor


def adjacent_pairs(x: Tensor, rotated: int) -> Tensor:
    """Heads from split halves to adjacent pairs; dimensions that are not rotated stay.

    Args:
        x: [T, N, D].
        rotated: how many dimensions of a head are rotated, the first ones.

    >>> import torch
    >>> adjacent_pairs(torch.arange(6.0).reshape(1, 1, 6), 4).tolist()
    [[[0.0, 2.0, 1.0, 3.0, 4.0, 5.0]]]
    """
    rotated = min(rotated, x.shape[-1])
    halves = x[..., :rotated].reshape(*x.shape[:-1], 2, -1)
    out = x.clone()
    out[..., :rotated] = halves.transpose(-1, -2).flatten(-2)
    return out


def split_halves(x: Tensor, rotated: int) -> Tensor:
    """Heads from adjacent pairs to split halves: the way back from `adjacent_pairs`."""
    rotated = min(rotated, x.shape[-1])
    pairs = x[..., :rotated].reshape(*x.shape[:-1], -1, 2)
    out = x.clone()
    out[..., :rotated] = pairs.transpose(-1, -2).flatten(-2)
    return out


def adjacent_order(width: int, halves: range) -> NDArray[Any]:
    """Which values of a head make adjacent pairs of two halves, [width].

    Args:
        width: of a head.
        halves: the dimensions that are two halves.

    >>> adjacent_order(6, range(2, 6)).tolist()
    [0, 1, 2, 4, 3, 5]
    """
    order = np.arange(width)
    order[halves] = np.asarray(halves).reshape(2, -1).T.reshape(-1)
    return order
