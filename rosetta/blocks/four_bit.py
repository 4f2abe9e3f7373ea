"""Sixteen uneven levels a weight: IQ4_NL and IQ4_XS, and the microscaling formats MXFP4 and NVFP4.

Layouts: ggml-common.h, block_iq4_nl, block_iq4_xs, block_mxfp4, block_nvfp4.
Letters: n = blocks, g = scales a block, k = runs a block, w = bytes a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from rosetta.blocks.fields import HALF_FLOOR, SQRT12, half, half_step, spacing
from rosetta.blocks.format import BlockFormat, Writer
from rosetta.lazily import torch

# ggml-common.h, kvalues_iq4nl
_IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
# OCP Microscaling Formats v1.0, E2M1, doubled; code 8 is a second zero
E2M1 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)

Scales = Callable[["torch.Tensor"], "tuple[torch.Tensor, torch.Tensor]"]
"""From the blocks, the scales `[n, g]` and the step to which each was rounded, float32."""


def gaps_of(levels: Sequence[float], beyond: float = 0.0) -> tuple[float, ...]:
    """For each level, the even gap whose rounding error has the same variance.

    The values that a level stands for reach half-way to both neighbours, a below and b above it; spread
    evenly over that cell, their variance around it is (a³ + b³) / 3(a + b). An outermost cell reaches as far
    outward as inward, or further.

    Args:
        levels: sixteen, in any order, repeated or not.
        beyond: how far above the largest magnitude a value may lie that still has to take it; 0: as inward.
    """
    ordered = sorted(set(levels))
    halves = [(right - left) / 2 for left, right in pairwise(ordered)]
    below = [beyond or halves[0], *halves]
    above = [*halves, beyond or halves[-1]]
    gap = {
        level: 2 * math.sqrt((a**3 + b**3) / (a + b))
        for level, a, b in zip(ordered, below, above, strict=True)
    }
    return tuple(gap[level] for level in levels)


def _write_looked_up(codes: torch.Tensor, table: Sequence[float], out: torch.Tensor) -> None:
    """The table's entry for each low nibble, then for each high nibble, of each run.

    Args:
        codes: uint8 `[n, k, w]`.
        table: sixteen numbers.
        out: float32 `[n, k, 2, w]`.
    """
    entries = torch.tensor(table, dtype=torch.float32, device=out.device)
    pairs = torch.stack([entries.repeat(16), entries.repeat_interleave(16)], dim=1)  # by byte: low, high
    # As one 8-byte element a pair is fetched several times faster than as a row of two.
    fetched = pairs.view(torch.float64).view(-1).index_select(0, codes.flatten().int())
    out.copy_(fetched.view(torch.float32).view(*codes.shape, 2).transpose(2, 3))


def _four_bit_format(
    name: str,
    group: int,
    codes: slice,
    runs: int,
    levels: tuple[int, ...],
    scales: Scales,
    beyond: float = 0.0,
) -> BlockFormat:
    """A format of uneven levels.

    Args:
        name, group: as in BlockFormat.
        codes: where the nibbles lie in the block.
        runs: stretches of the block that are stored as low nibbles, then high nibbles.
        levels: the sixteen.
        scales: how the scales are unpacked.
        beyond: as in `gaps_of`.
    """
    gaps, reach = gaps_of(levels, beyond), max(map(abs, levels))

    def write(blocks: torch.Tensor, table: Sequence[float], out: torch.Tensor) -> None:
        packed = blocks[:, codes].view(len(out), runs, -1)
        _write_looked_up(packed, table, out.view(len(out), runs, 2, -1))

    def write_values(blocks: torch.Tensor, out: torch.Tensor) -> None:
        write(blocks, levels, out)
        scale, _ = scales(blocks)
        out.view(len(out), scale.shape[1], -1).mul_(scale[..., None])

    def write_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
        """σ² = ((gap·scale)² + (level·step of the scale)²) / 12; with a scale of zero, the largest level."""
        scale, unit = scales(blocks)
        error = torch.empty_like(out).view(len(out), scale.shape[1], -1)
        write(blocks, levels, error.view_as(out))
        error.masked_fill_((scale == 0)[..., None], reach).mul_(unit[..., None] / SQRT12)
        write(blocks, gaps, out)
        grouped = out.view_as(error)
        torch.hypot(grouped.mul_(scale[..., None] / SQRT12), error, out=grouped)

    values: Writer = write_values
    return BlockFormat(name, group, values, write_sigma)


def _iq4_nl_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = half(blocks, 0)
    return scale, spacing(scale.clone(), 10, HALF_FLOOR)


def _iq4_xs_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A float16, then for each of eight sub-blocks the high two bits and the low nibble of a 6-bit scale."""
    d = half(blocks, 0)
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=blocks.device)
    high = (blocks[:, 2:4, None] >> shifts).bitwise_and_(3).flatten(1)
    low = torch.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], dim=2).flatten(1)
    scale = d * low.bitwise_or_(high.mul_(16)).sub_(32).view(torch.int8)
    return scale, half_step(d, 32).expand_as(scale)


def _mxfp4_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """E8M0, halved because the levels are doubled. Not rounded: what it cannot hold, the last level takes."""
    exponent = blocks[:, :1].int()
    bits = torch.where(exponent < 2, 0x0020_0000 << exponent, (exponent - 1) << 23)
    scale = bits.int().view(torch.float32)
    return scale, torch.zeros_like(scale)


def _nvfp4_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unsigned E4M3, halved because the levels are doubled; its NaN counts as zero."""
    code = blocks[:, :4].int()
    exponent, mantissa = (code >> 3) & 15, (code & 7).float()
    unit = ((exponent.clamp(min=1) - 11 + 127) << 23).view(torch.float32)  # 2^(e − 7 − 3) / 2, as bits
    scale = torch.where(exponent > 0, mantissa + 8, mantissa) * unit
    return scale.masked_fill(code == 0x7F, 0), unit


FORMATS = (
    _four_bit_format("IQ4_NL", 32, slice(2, 18), 1, _IQ4, _iq4_nl_scales),
    _four_bit_format("IQ4_XS", 32, slice(8, 136), 8, _IQ4, _iq4_xs_scales),
    # the scale is a power of two: the largest magnitude of a block is anywhere in 8 … 16, four above 12
    _four_bit_format("MXFP4", 32, slice(1, 17), 1, E2M1, _mxfp4_scales, beyond=4.0),
    _four_bit_format("NVFP4", 16, slice(4, 36), 4, E2M1, _nvfp4_scales),
)
