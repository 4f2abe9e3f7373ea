"""Superblocks of 256 weights: one float16 scale, a small scale for each sub-block, a level for each weight.

A weight is d·s·q, or d·s·q − dmin·m. The families differ only in how d, s, m and q are packed. All products
d·s are exact in float32, so their order does not matter. Letters: n = superblocks, g = sub-blocks of one.
"""

from __future__ import annotations

from collections.abc import Callable

from rosetta.blocks.fields import SQRT12, half_step
from rosetta.blocks.format import BlockFormat, Writer
from rosetta.lazily import torch

Levels = Callable[["torch.Tensor", "torch.Tensor"], None]
"""From the blocks, writes q into float32 `[n, 256]`."""
Scales = Callable[["torch.Tensor"], "tuple[torch.Tensor, torch.Tensor]"]
"""From the blocks, d `[n, 1]` and s `[n, g]`, float32; or dmin and m."""


def superblock_format(
    name: str,
    group: int,
    levels: Levels,
    scales: Scales,
    minima: Scales | None = None,
    *,
    reach: float,
    scale_reach: float,
    gap: float = 1.0,
) -> BlockFormat:
    """A format of superblocks.

    Args:
        name, group: as in BlockFormat.
        levels, scales, minima: how its fields are unpacked.
        reach: the largest |q|.
        scale_reach: the largest |s|, and |m|.
        gap: distance between neighbouring levels.
    """
    sigma = _sigma(levels, scales, minima, reach, scale_reach, gap)
    return BlockFormat(name, group, _values(levels, scales, minima), sigma)


def _values(levels: Levels, scales: Scales, minima: Scales | None) -> Writer:
    def write_values(blocks: torch.Tensor, out: torch.Tensor) -> None:
        d, s = scales(blocks)
        levels(blocks, out)
        grouped = out.view(len(out), s.shape[1], -1)  # [n, g, 256 / g]
        grouped.mul_((d * s)[..., None])
        if minima is not None:
            dmin, m = minima(blocks)
            grouped.sub_((dmin * m)[..., None])

    return write_values


def _sigma(
    levels: Levels, scales: Scales, minima: Scales | None, reach: float, scale_reach: float, gap: float
) -> Writer:
    """σ² = (step² + (unit·q)² + minimum unit²) / 12, where unit is the step of s, and what d's rounding adds.

    A sub-block whose scale is rounded to zero keeps no level: what it lost reaches up to the largest one.
    """

    def write_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
        d, s = scales(blocks)
        unit = half_step(d, scale_reach).div_(SQRT12)  # [n, 1]
        step = d * s  # [n, g]
        lost = torch.where(step == 0, unit * reach, 0)
        constant = torch.hypot(step * (gap / SQRT12), lost)
        if minima is not None:
            constant = torch.hypot(constant, half_step(minima(blocks)[0], scale_reach).div_(SQRT12))
        levels(blocks, out)
        out.mul_(unit).square_()
        out.view(len(out), s.shape[1], -1).add_(constant.square_()[..., None])
        out.sqrt_()

    return write_sigma
