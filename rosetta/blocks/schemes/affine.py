"""What the schemes of integer codes share: (code − zero point) · scale, of groups of columns.

Letters: R = rows, C = columns, G = groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rosetta.blocks.fields import SQRT12, unit
from rosetta.blocks.schemes.packed import Parts, Way
from rosetta.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


def affine(
    q: Tensor, zero: Tensor | None, scale: Tensor, group: Tensor, *, reach: int, exact_scale: bool = False
) -> tuple[Tensor, Tensor]:
    """Values, rounded to the scales' dtype as the libraries do, and the standard deviation of their rounding.

    Args:
        q: codes, integers [R, C].
        zero: zero points, [R, G] or [1, G]; None: 0.
        scale: [R, G] or [1, G], of a float dtype.
        group: of each column, int64 [C].
        reach: the largest distance of a code from its zero point: by so much the scale's own rounding is multiplied.
        exact_scale: whether the codes were made with the scale as it is stored, so that its rounding is none of them.
    """
    dtype, step = scale.dtype, scale.float().abs()
    if not exact_scale and dtype != torch.float32:
        step = torch.hypot(step, unit(scale, dtype) * reach)
    spread = _spread(group, scale.shape[-1])
    values = q.float()
    if zero is not None:
        values = values - spread(zero.float())
    values = (values * spread(scale.float())).to(dtype).float()
    sigma = spread(step / SQRT12).expand_as(values)
    if dtype != torch.float32:
        sigma = added(sigma, unit(values, dtype))
    return values, sigma


def added(sigma: Tensor, step: Tensor) -> Tensor:
    """A standard deviation, and that of a rounding to steps, which is written over."""
    return step.square_().mul_(1 / 12).addcmul_(sigma, sigma).sqrt_()


def _spread(group: Tensor, count: int) -> Callable[[Tensor], Tensor]:
    """What makes numbers by group, [R, G], into numbers by column, [R, C]."""
    columns = len(group)
    size = columns // count
    in_turn = size * count == columns and bool(
        (group.view(count, size) == torch.arange(count)[:, None]).all()
    )
    if in_turn:  # several times faster than looking each column's group up
        return lambda numbers: numbers.repeat_interleave(size, dim=-1)
    return lambda numbers: numbers.index_select(-1, group)


def scales_by_group(parts: Parts, name: str, way: Way, start: int, stop: int) -> Tensor:
    """The scales of some rows, [rows, G], of a tensor that has them by group and row, [G, R]."""
    if way.scales == "transposed":
        stored = parts.rows(name)
        return stored.reshape(stored.shape[1], stored.shape[0])[start:stop]
    return applied(parts.columns(name, start, stop).T, way)


def read_scales(scale: Tensor, way: Way, rows: slice) -> Tensor:
    """The scales of some rows, as a way of reading has them.

    Args:
        scale: all of them, [R, G].
        way: how they are read.
        rows: which.
    """
    if way.scales == "transposed":
        scale = scale.reshape(scale.shape[1], scale.shape[0]).T
    return applied(scale[rows], way)


def applied(scale: Tensor, way: Way) -> Tensor:
    """Scales as they are multiplied with: as stored, one, or their inverse."""
    if way.scales == "ignored":
        return torch.ones_like(scale)
    return (1 / scale.float()).to(scale.dtype) if way.scales == "divided by" else scale
