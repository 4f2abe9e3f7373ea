"""Integer and boolean tensors (masks, position tables): they have no scale and are never weights."""

from __future__ import annotations

import torch

from rosetta.blocks.format import BlockFormat
from rosetta.dtypes import DTYPES, FLOATS, Dtype


def _integer_format(dtype: Dtype) -> BlockFormat:
    number = getattr(torch, str(dtype.number))

    def write_values(blocks: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(blocks.view(number))

    return BlockFormat(dtype.name, 32, write_values, None)


FORMATS = tuple(
    _integer_format(dtype) for dtype in DTYPES.values() if dtype.number and dtype.name not in FLOATS
)
