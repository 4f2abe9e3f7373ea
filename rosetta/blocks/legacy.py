"""ggml's first block formats: 32 weights with one float16 scale, and a float16 minimum in Q4_1 and Q5_1.

Layouts: ggml-common.h, block_q4_0 … block_q8_0. Low nibble k is weight k, high nibble k is weight k + 16.
"""

from __future__ import annotations

from rosetta.blocks.fields import HALF_FLOOR, SQRT12, bits, half, half_step, spacing, write_nibbles
from rosetta.blocks.format import BlockFormat, Writer
from rosetta.lazily import torch


def _q4_0(blocks: torch.Tensor, out: torch.Tensor) -> None:
    write_nibbles(blocks[:, None, 2:], out.view(-1, 1, 2, 16), offset=8)
    out.mul_(half(blocks, 0))


def _q4_1(blocks: torch.Tensor, out: torch.Tensor) -> None:
    write_nibbles(blocks[:, None, 4:], out.view(-1, 1, 2, 16))
    out.mul_(half(blocks, 0)).add_(half(blocks, 2))


def _q5_0(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(_five_bits(blocks, 2).sub_(16).view(torch.int8))
    out.mul_(half(blocks, 0))


def _q5_1(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(_five_bits(blocks, 4))
    out.mul_(half(blocks, 0)).add_(half(blocks, 2))


def _q8_0(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(blocks[:, 2:].view(torch.int8))
    out.mul_(half(blocks, 0))


def _five_bits(blocks: torch.Tensor, start: int) -> torch.Tensor:
    """uint8 `[n, 32]`: four bytes of fifth bits at `start`, then 16 bytes of nibbles."""
    q = torch.empty((len(blocks), 32), dtype=torch.uint8, device=blocks.device)
    write_nibbles(blocks[:, None, start + 4 :], q.view(-1, 1, 2, 16))
    return q.bitwise_or_(bits(blocks[:, start : start + 4]).mul_(16))


def _step_sigma(reach: int) -> Writer:
    """σ of a format with a scale alone; `reach` is its largest level."""

    def write_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(half_step(half(blocks, 0), reach).div_(SQRT12))

    return write_sigma


def _step_and_minimum_sigma(reach: int) -> Writer:
    """σ of a format with scale and minimum: the minimum is rounded to a float16 as well."""

    def write_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
        minimum_step = spacing(half(blocks, 2), 10, HALF_FLOOR)
        out.copy_(torch.hypot(half_step(half(blocks, 0), reach), minimum_step).div_(SQRT12))

    return write_sigma


FORMATS = (
    BlockFormat("Q4_0", 32, _q4_0, _step_sigma(8), halves=(0,)),
    BlockFormat("Q4_1", 32, _q4_1, _step_and_minimum_sigma(15), halves=(0, 2)),
    BlockFormat("Q5_0", 32, _q5_0, _step_sigma(16), halves=(0,)),
    BlockFormat("Q5_1", 32, _q5_1, _step_and_minimum_sigma(31), halves=(0, 2)),
    BlockFormat("Q8_0", 32, _q8_0, _step_sigma(127), halves=(0,)),
)
