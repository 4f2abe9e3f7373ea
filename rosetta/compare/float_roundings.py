"""What roundings to floats may add up to.

Of weights drawn from a continuum they are independent. Those that were decoded from a quantised row are codes times the
row's scale: equal codes are off by the same, and where the scale is nearly a float, all codes are off by one factor. No
sum can tell that from a factor of the row, and a bound of it is known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.weight import Weight

ROUNDED = ("F16", "BF16")


def of_floats(w: Tensor, copies: tuple[Weight, Weight]) -> Tensor:
    """σ·|w|, float64 of w's shape, of the roundings of two copies to floats; a block's have to do with its own scale.

    Args:
        w: weights, float32.
        copies: the two.
    """
    variance = torch.zeros_like(w)
    for weight in copies:
        add = blocks.block_format(weight.dtype).add_variance if weight.dtype in ROUNDED else None
        if add is not None:
            add(w, variance)
    return variance.double().sqrt() * w.double().abs()
