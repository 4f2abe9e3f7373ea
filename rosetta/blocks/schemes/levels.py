"""What the schemes of uneven levels share: a code is the number of a level, which is multiplied with a scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rosetta.blocks.fields import SQRT12, unit
from rosetta.blocks.four_bit import E2M1
from rosetta.blocks.schemes.affine import added
from rosetta.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor

FLOAT4 = tuple(level / 2 for level in E2M1)  # OCP Microscaling Formats v1.0, E2M1


def nibbles(packed: Tensor, high_first: bool) -> Tensor:
    """Two codes of each byte, uint8 [R, bytes] -> [R, 2 · bytes]."""
    pair = (packed >> 4, packed & 15) if high_first else (packed & 15, packed >> 4)
    return torch.stack(pair, dim=-1).flatten(-2)


def at_levels(
    code: Tensor,
    levels: Sequence[float],
    gaps: Sequence[float],
    scale: Tensor,
    scale_step: Tensor | None,
    rounded: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Values and the standard deviation of their rounding.

    Args:
        code: uint8, any shape.
        levels: what each code stands for.
        gaps: the even gap of each level whose rounding error is the same.
        scale: float32 that goes with the codes' shape.
        scale_step: what the scale itself was rounded to, float32 of its shape; None: it is exact.
        rounded: dtype of the product; None: float32.
    """
    index = code.flatten().int()
    level = torch.tensor(levels, dtype=torch.float32).index_select(0, index).view(code.shape)
    gap = torch.tensor(gaps, dtype=torch.float32).div_(SQRT12).index_select(0, index).view(code.shape)
    values, sigma = level * scale, gap.mul_(scale.abs())
    if scale_step is not None:
        sigma = added(sigma, level.mul_(scale_step))
    if rounded not in (None, torch.float32):
        values = values.to(rounded).float()
        sigma = added(sigma, unit(values, rounded))
    return values, sigma


def mxfp4_blocks(packed: Tensor, exponents: Tensor) -> Tensor:
    """Codes and exponents of MXFP4 as ggml's blocks, uint8 [n, 17]: the exponent, then code k beside code k + 16.

    Args:
        packed: uint8 [n, 16], code 2k in the low half of byte k.
        exponents: uint8 [n, 1].

    Source: ggml-common.h, block_mxfp4; ggml-quants.c, dequantize_row_mxfp4.
    """
    code = nibbles(packed, high_first=False)  # [n, 32]
    return torch.cat([exponents, code[:, :16] | code[:, 16:] << 4], dim=1)
