"""What a block format is: how raw bytes become numbers, and how coarse those numbers are.

Letters: n = number of blocks, B = weights a block, S = bytes a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class BlockFormat:
    """One dtype.

    Args:
        name: gguf-py's name (`Q4_K`), or `APR_Q4`, `APR_Q8`.
        block_size: weights a block (1 for floats).
        type_size: bytes a block.
        group: weights that share one scale, the granularity at which two copies are told apart
            (32, or 16 in Q2_K, Q3_K, Q6_K; 32 for floats too, so that any pair can be compared).
        decode: uint8 `[n, S]` -> float32 `[n, B]`, bit-identical to gguf-py, on the input's device.
        sigma: uint8 `[n, S]` -> float32 `[n, B]`: standard deviation of the rounding of each weight,
            gap at the weight's own level / √12 (docs/noise.md), plus the rounding of a K-quant's sub-scale.
            None for integer types, which have no scale and cannot be weights.
    """

    name: str
    block_size: int
    type_size: int
    group: int
    decode: Callable[[torch.Tensor], torch.Tensor]
    sigma: Callable[[torch.Tensor], torch.Tensor] | None
