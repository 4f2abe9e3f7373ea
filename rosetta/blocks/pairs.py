"""Weights that a quantisation scheme has decoded already: a value and the standard deviation of its rounding each."""

from __future__ import annotations

from functools import cache

from rosetta.blocks.format import BlockFormat
from rosetta.lazily import torch


@cache
def pair_format(name: str) -> BlockFormat:
    """The format of a scheme's dtype (`GPTQ:INT4`), whose numbers `rosetta.blocks.schemes` has worked out."""
    return BlockFormat(name, 32, _write_values, _write_sigma)


def _write_values(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(blocks.view(torch.float32)[:, :1])


def _write_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(blocks.view(torch.float32)[:, 1:])
