"""What a block format is: how raw bytes become numbers, and how coarse those numbers are.

Letters: n = number of blocks, B = weights a block, S = bytes a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rosetta.dtypes import DTYPES
from rosetta.lazily import torch

Writer = Callable[["torch.Tensor", "torch.Tensor"], None]
"""From uint8 `[n, S]`, fills a float32 `[n, B]` on the same device."""
Adder = Callable[["torch.Tensor", "torch.Tensor"], None]
"""From float32 values of any shape, adds to a float32 of the same shape."""


class Affine(NamedTuple):
    """What makes values and their rounding of the levels of n blocks, g groups each: a value is scale · level −
    minimum, the variance of its rounding unit · level² + constant.

    Args:
        scale, constant: float32 `[n, g]`.
        minimum: float32 `[n, g]`; None where there is none.
        unit: float32 `[n, 1]`.
    """

    scale: torch.Tensor
    minimum: torch.Tensor | None
    unit: torch.Tensor
    constant: torch.Tensor


@dataclass(frozen=True)
class BlockFormat:
    """One dtype.

    Args:
        name: gguf-py's name (`Q4_K`), or `APR_Q4`, `APR_Q8`.
        group: weights that share one scale, the granularity at which two copies are told apart
            (32, or 16 in Q2_K, Q3_K, Q6_K and a few more; 32 for floats too, so that any pair can be
            compared).
        write_values: the decoder, bit-identical to gguf-py.
        write_sigma: standard deviation of the rounding of each weight: gap at the weight's own level / √12,
            and what the rounding of its scale adds (docs/noise.md). None for integer types, which have no
            scale and cannot be weights.
        write_variance: its square, where that takes fewer passes than squaring it.
        add_variance: adds it to what is there, from the decoded values alone; None where these do not tell.
        write_step: distance of neighbouring levels at each weight, where they are evenly spaced and every encoder
            gives a weight the nearest one.
        affine: of blocks of evenly spaced levels, what these mean.
        quick: whether `write_values` takes less time than ggml's own decoder.
        halves: first bytes of the float16 numbers of a block that all its weights are multiples of, and besides, where
            there is another one, of what is added to them or taken off: its scale and its minimum.
    """

    name: str
    group: int
    write_values: Writer
    write_sigma: Writer | None
    write_variance: Writer | None = None
    add_variance: Adder | None = None
    write_step: Writer | None = None
    affine: Callable[[torch.Tensor], Affine] | None = None
    quick: bool = False
    halves: tuple[int, ...] = ()

    @property
    def block_size(self) -> int:
        """Weights a block; see `Dtype`."""
        return DTYPES[self.name].block_size

    @property
    def type_size(self) -> int:
        """Bytes a block; see `Dtype`."""
        return DTYPES[self.name].type_size
