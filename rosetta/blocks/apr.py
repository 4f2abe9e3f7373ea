"""The `.apr` format's own quantisations: APR_Q4 in blocks over the flattened tensor, APR_Q8 with one scale.

APR_Q4 has the size of Q4_0 and another order of nibbles: byte k holds weights 2k and 2k + 1. A scale that is
not finite is decoded as it is stored, so that it is seen (some readers of the format turn it into zero).
"""

from __future__ import annotations

from rosetta.blocks.fields import SQRT12, aligned, half, half_step
from rosetta.blocks.format import BlockFormat
from rosetta.lazily import torch


def _apr_q4(blocks: torch.Tensor, out: torch.Tensor) -> None:
    pairs = torch.stack([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], dim=2)
    out.copy_(pairs.sub_(8).view(torch.int8).flatten(1))
    out.mul_(half(blocks, 0))


def _apr_q4_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(half_step(half(blocks, 0), 8).div_(SQRT12))


def _apr_q8(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(blocks[:, 4:].view(torch.int8))
    out.mul_(_apr_q8_scale(blocks))


def _apr_q8_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
    # A tensor of zeros is written with the scale 1, which says nothing of how coarse it is.
    empty = (blocks[:, 4:] == 0).all(1, keepdim=True)
    out.copy_(_apr_q8_scale(blocks).abs_().div_(SQRT12).masked_fill_(empty, 0))


def _apr_q8_scale(blocks: torch.Tensor) -> torch.Tensor:
    return aligned(blocks[:, :4]).view(torch.float32)


FORMATS = (
    BlockFormat("APR_Q4", 32, _apr_q4, _apr_q4_sigma),
    BlockFormat("APR_Q8", 32, _apr_q8, _apr_q8_sigma),
)
