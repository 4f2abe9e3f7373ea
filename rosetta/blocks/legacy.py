"""ggml's first block formats: 32 weights with one float16 scale, and a float16 minimum in Q4_1 and Q5_1.

Layouts: ggml-common.h, block_q4_0 … block_q8_0. Low nibble k is weight k, high nibble k is weight k + 16.
"""

from __future__ import annotations

from collections.abc import Callable

from rosetta.blocks.fields import HALF_FLOOR, SQRT12, bits, half, half_step, spacing, write_nibbles
from rosetta.blocks.format import Affine, BlockFormat, Writer
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


Sigma = Callable[["torch.Tensor"], "torch.Tensor"]
"""Of the blocks, the σ that all weights of each have, float32 `[n, 1]`."""


def _of_step(reach: int) -> Sigma:
    """σ of a format with a scale alone; `reach` is its largest level."""
    return lambda blocks: half_step(half(blocks, 0), reach).div_(SQRT12)


def _of_step_and_minimum(reach: int) -> Sigma:
    """σ of a format with scale and minimum: the minimum is rounded to a float16 as well."""

    def sigma(blocks: torch.Tensor) -> torch.Tensor:
        minimum_step = spacing(half(blocks, 2), 10, HALF_FLOOR)
        return torch.hypot(half_step(half(blocks, 0), reach), minimum_step).div_(SQRT12)

    return sigma


def _format(name: str, values: Writer, sigma: Sigma, minimum: bool = False) -> BlockFormat:
    """A format of one scale a block.

    Args:
        name, values: as in BlockFormat.
        sigma: the same for all weights of a block.
        minimum: whether a float16 that is added to all weights follows the scale.
    """

    def write_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(sigma(blocks))

    def affine(blocks: torch.Tensor) -> Affine:
        constant = sigma(blocks).square_()
        least = half(blocks, 2).neg_() if minimum else None
        return Affine(half(blocks, 0), least, torch.zeros_like(constant), constant)

    halves = (0, 2) if minimum else (0,)
    return BlockFormat(name, 32, values, write_sigma, halves=halves, affine=affine)


FORMATS = (
    _format("Q4_0", _q4_0, _of_step(8)),
    _format("Q4_1", _q4_1, _of_step_and_minimum(15), minimum=True),
    _format("Q5_0", _q5_0, _of_step(16)),
    _format("Q5_1", _q5_1, _of_step_and_minimum(31), minimum=True),
    _format("Q8_0", _q8_0, _of_step(127)),
)
