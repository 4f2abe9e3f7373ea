"""Integer and boolean tensors (masks, position tables): they have no scale and are never weights."""

from __future__ import annotations

from rosetta.blocks.format import BlockFormat
from rosetta.dtypes import DTYPES, FLOATS, Dtype
from rosetta.lazily import torch


def _integer_format(dtype: Dtype) -> BlockFormat:
    def write_values(blocks: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(blocks.view(getattr(torch, str(dtype.number))))

    return BlockFormat(dtype.name, 32, write_values, None)


FORMATS = tuple(
    _integer_format(dtype) for dtype in DTYPES.values() if dtype.number and dtype.name not in FLOATS
)
