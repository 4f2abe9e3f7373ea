"""Integer and boolean tensors (masks, position tables): they have no scale and are never weights."""

from __future__ import annotations

import torch

from rosetta.blocks.format import BlockFormat

_INTEGERS = {
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.uint8,
}


def _integer_format(name: str, dtype: torch.dtype) -> BlockFormat:
    def write_values(blocks: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(blocks.view(dtype))

    return BlockFormat(name, 1, dtype.itemsize, 32, write_values, None)


FORMATS = tuple(_integer_format(name, dtype) for name, dtype in _INTEGERS.items())
