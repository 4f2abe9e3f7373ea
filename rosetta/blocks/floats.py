"""F32, F16, BF16 and F64: a weight is a block of its own; its step is its unit in the last place."""

from __future__ import annotations

import torch

from rosetta.blocks.fields import HALF_FLOOR, SQRT12, spacing
from rosetta.blocks.format import BlockFormat, Writer

# IEEE 754: explicit mantissa bits, and the step of the subnormal numbers. The last is F32's and would become
# zero in float32 when divided by √12. F64 is decoded to float32, and that is the rounding that counts.
_FLOATS = [
    ("F32",  torch.float32,  23, 2.0**-149 * SQRT12),
    ("F16",  torch.float16,  10, HALF_FLOOR),
    ("BF16", torch.bfloat16,  7, 2.0**-133),
    ("F64",  torch.float64,  23, 2.0**-149 * SQRT12),
]  # fmt: skip


def _float_format(name: str, dtype: torch.dtype, mantissa_bits: int, floor: float) -> BlockFormat:
    def write_values(blocks: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(blocks.view(dtype))

    def write_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
        write_values(blocks, out)
        spacing(out, mantissa_bits, floor, SQRT12)

    values: Writer = write_values
    return BlockFormat(name, 1, dtype.itemsize, 32, values, write_sigma)


FORMATS = tuple(_float_format(*row) for row in _FLOATS)
