"""TQ1_0 and TQ2_0: 256 weights of −1, 0 or 1 and one float16 scale.

Layouts: ggml-common.h, block_tq1_0, block_tq2_0. Letters: n = blocks.
"""

from __future__ import annotations

from rosetta.blocks.fields import SQRT12, half, half_step
from rosetta.blocks.format import BlockFormat
from rosetta.lazily import torch


def _tq1_0(blocks: torch.Tensor, out: torch.Tensor) -> None:
    """Five base-three digits a byte (four in the last four bytes): byte b is the fraction b / 256."""
    start = 0
    for first, last, digits in ((0, 32, 5), (32, 48, 5), (48, 52, 4)):
        powers = torch.tensor([1, 3, 9, 27, 81][:digits], dtype=torch.uint8, device=blocks.device)
        fraction = blocks[:, None, first:last] * powers[:, None]  # [n, digits, bytes], modulo 256
        digit = (fraction.short() * 3 >> 8) - 1
        stop = start + digits * (last - first)
        out[:, start:stop].copy_(digit.flatten(1))
        start = stop
    out.mul_(half(blocks, 52))


def _tq2_0(blocks: torch.Tensor, out: torch.Tensor) -> None:
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=blocks.device)[:, None]
    planes = (blocks[:, :64].view(-1, 2, 1, 32) >> shifts).bitwise_and_(3)
    out.view(-1, 2, 4, 32).copy_(planes.sub_(1).view(torch.int8))
    out.mul_(half(blocks, 64))


def _tq1_0_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(half_step(half(blocks, 52), 1).div_(SQRT12))


def _tq2_0_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(half_step(half(blocks, 64), 1).div_(SQRT12))


FORMATS = (
    BlockFormat("TQ1_0", 32, _tq1_0, _tq1_0_sigma),
    BlockFormat("TQ2_0", 32, _tq2_0, _tq2_0_sigma),
)
