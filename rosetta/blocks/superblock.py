"""Superblocks of 256 weights: one float16 scale, a small scale for each sub-block, a level for each weight.

A weight is d·s·q, or d·s·q − dmin·m. The families differ only in how d, s, m and q are packed. All products
d·s are exact in float32, so their order does not matter. Letters: n = superblocks, g = sub-blocks of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from rosetta.blocks.fields import SQRT12, half, half_step_squared
from rosetta.blocks.format import Affine, BlockFormat, Writer
from rosetta.blocks.ggml import decoder_of
from rosetta.lazily import torch

Levels = Callable[["torch.Tensor", "torch.Tensor"], None]
"""From the blocks, writes q into float32 `[n, 256]`."""
Scales = Callable[["torch.Tensor"], "tuple[torch.Tensor, torch.Tensor]"]
"""From the blocks, d `[n, 1]` and s `[n, g]`, float32."""
Noise = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "tuple[torch.Tensor, torch.Tensor]"]
"""From the blocks, d and s, what of σ² is multiplied with q², `[n, 1]`, and the rest of it, `[n, g]`."""
Unscaled = Mapping[int, bytes]
"""What the fields of a block hold, by their first byte, where d and each s are 1 and there is no minimum."""


class Minima(NamedTuple):
    """Where dmin lies in a block, by its first byte, and what gives m of the blocks, float32 `[n, g]`."""

    start: int
    levels: Callable[[torch.Tensor], torch.Tensor]


def superblock_format(
    name: str,
    group: int,
    levels: Levels,
    scales: Scales,
    minima: Minima | None = None,
    *,
    reach: float,
    scale_reach: float,
    gap: float = 1.0,
    unscaled: Unscaled | None = None,
    scale: int | None = None,
    nearest: bool = False,
    quick: bool = False,
) -> BlockFormat:
    """A format of superblocks.

    Args:
        name, group: as in BlockFormat.
        levels, scales, minima: how its fields are unpacked.
        reach: the largest |q|.
        scale_reach: the largest |s|, and |m|.
        gap: distance between neighbouring levels.
        unscaled: makes a decoder of the format give q, where ggml's is at hand.
        scale: first byte of d, where it is a float16 of its own.
        nearest: whether every encoder gives a weight the level that is nearest to it.
        quick: as in BlockFormat.
    """
    values = _values(levels, scales, minima)
    by_decoder = _levels_by_decoder(BlockFormat(name, group, values, values), levels, unscaled or {})
    noise = _noise(minima, reach, scale_reach, gap)
    variance = _variance(by_decoder, scales, noise)

    def affine(blocks: torch.Tensor) -> Affine:
        d, s = scales(blocks)
        return Affine(d * s, _minimum(blocks, minima), *noise(blocks, d, s))

    def write_sigma(blocks: torch.Tensor, out: torch.Tensor) -> None:
        variance(blocks, out)
        out.sqrt_()

    def write_step(blocks: torch.Tensor, out: torch.Tensor) -> None:
        d, s = scales(blocks)
        out.view(len(out), s.shape[1], -1).copy_((d * s).abs_().mul_(gap)[..., None])

    halves = () if scale is None else (scale,) if minima is None else (scale, minima.start)
    return BlockFormat(
        name,
        group,
        values,
        write_sigma,
        variance,
        write_step=write_step if nearest else None,
        quick=quick,
        halves=halves,
        affine=affine,
    )


def _levels_by_decoder(block: BlockFormat, levels: Levels, unscaled: Unscaled) -> Levels:
    """The levels as ggml's decoder gives them of blocks without a scale: 1·1·q is exact, and takes a fifth of the time
    that unpacking takes in passes of our own."""

    def write_levels(blocks: torch.Tensor, out: torch.Tensor) -> None:
        theirs = decoder_of(block) if unscaled and blocks.device.type == "cpu" else None
        if theirs is None or not out.is_contiguous():
            return levels(blocks, out)
        plain = blocks.clone(memory_format=torch.contiguous_format)
        for start, field in unscaled.items():
            plain[:, start : start + len(field)] = torch.tensor(list(field), dtype=torch.uint8)
        return theirs(plain, out)

    return write_levels


def _minimum(blocks: torch.Tensor, minima: Minima | None) -> torch.Tensor | None:
    """dmin·m, float32 `[n, g]`."""
    return None if minima is None else half(blocks, minima.start) * minima.levels(blocks)


def _values(levels: Levels, scales: Scales, minima: Minima | None) -> Writer:
    def write_values(blocks: torch.Tensor, out: torch.Tensor) -> None:
        d, s = scales(blocks)
        levels(blocks, out)
        grouped = out.view(len(out), s.shape[1], -1)  # [n, g, 256 / g]
        grouped.mul_((d * s)[..., None])
        minimum = _minimum(blocks, minima)
        if minimum is not None:
            grouped.sub_(minimum[..., None])

    return write_values


def _noise(minima: Minima | None, reach: float, scale_reach: float, gap: float) -> Noise:
    """σ² = (step² + (unit·q)² + minimum unit²) / 12, where unit is the step of s, and what d's rounding adds.

    A sub-block whose scale is rounded to zero keeps no level: what it lost reaches up to the largest one.
    """

    def noise(blocks: torch.Tensor, d: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        unit = half_step_squared(d, scale_reach).div_(12)
        step = d * s
        constant = (step * (gap / SQRT12)).square_()
        if not bool(constant.amin() > 0):  # nor where it is NaN
            constant = torch.where(step == 0, unit * reach**2, constant)
        if minima is not None:
            constant += half_step_squared(half(blocks, minima.start), scale_reach).div_(12)
        return unit, constant

    return noise


def _variance(levels: Levels, scales: Scales, noise: Noise) -> Writer:
    def write_variance(blocks: torch.Tensor, out: torch.Tensor) -> None:
        unit, constant = noise(blocks, *scales(blocks))
        levels(blocks, out)
        out.square_().mul_(unit)
        out.view(len(out), constant.shape[1], -1).add_(constant[..., None])

    return write_variance
