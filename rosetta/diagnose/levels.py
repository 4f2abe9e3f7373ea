"""The few levels that values lie on: edits that leave values as they are, and know how far they were rounded.

Letters: R = rows, C = columns, n = groups, g = weights of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta.diagnose.edits import SQRT12

EIGHT_BITS = 127  # levels to either side
# Steps between the ends of a group that has a zero point: the ends themselves were rounded to them.
WITH_ZERO_POINT = (255, 254, 256)
TELLING = 6  # values that tell whether they are whole numbers of a step
# Of a step's square, by how much values miss whole steps, where chance has 1 / 12 and, of the best of sixty steps,
# 0.044 and 0.027 (a tenth of groups of 32 and of 16); six bits in BF16 have 0.003 (nine tenths).
OFF_STEPS, KNOWN = 0.01, 0.003
MOSTLY_TELLS, MOSTLY_OFF = 0.32, 0.035  # of a step; of its square


class AsTheyAre:
    """What an edit that only says how far values were rounded does to them: nothing."""

    def touches(self, start: int, stop: int) -> bool:
        return False

    def values(self, values: Tensor, start: int) -> Tensor:
        return values


@dataclass(frozen=True)
class OnLevels(AsTheyAre):
    """Values as they are, with the rounding to the few levels that they lie on.

    Args:
        group: weights that share the levels.
        significands: of a float of few bits, how many there are; 0 of levels that the values themselves show.
        beyond: how much farther outwards than inwards an end level takes values in.
        nearest: whether each weight of a sample was rounded by itself to one of the levels about it.
        like: a dtype whose encoders leave such blocks.
        cut: whether what lies beyond a level was cut off: the error is up to a whole step, and of one sign.
    """

    group: int
    significands: int
    beyond: float = 1.0
    nearest: bool = False
    like: str | None = None
    cut: bool = False

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return torch.hypot(sigma, self.rounding(values))

    def rounding(self, values: Tensor, known: Tensor | None = None) -> Tensor:
        """Root mean square of the rounding to the levels.

        Args:
            values: [R, C].
            known: how far each may be off its level at most; None: not at all.
        """
        if self.significands:  # a step is at most the power of two below the value, over their number
            whole = 2.0 if self.cut else 1.0  # √(s² / 3) is twice √(s² / 12)
            return whole * values.abs() / (self.significands * SQRT12)
        grouped = on_levels(values, known, self.group)
        return gaps_of_levels(grouped, self.beyond).view(len(values), -1)[:, : values.shape[1]] / SQRT12


@dataclass(frozen=True)
class OnEvenLevels(AsTheyAre):
    """Values as they are, with the rounding to evenly spaced levels, more than a group's own values show.

    Args:
        group: weights that share a step.
        counts: into how many steps the range of a group may be cut; none: its largest value is 127 of them, or its
            range 255 where it has a zero point.
        unit: relative rounding of the values themselves.
        nearest: whether each weight of a sample was rounded by itself to one of the levels about it.
        ends: of all groups alike, the least and the largest value; None: each has its own.
    """

    group: int
    counts: tuple[int, ...]
    unit: float
    nearest: bool = False
    ends: tuple[float, float] | None = None

    @property
    def like(self) -> str:
        """A dtype whose encoders leave such blocks."""
        return "Q6_K" if self.counts else "Q8_0"

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return torch.hypot(sigma, self.rounding(values))

    def rounding(self, values: Tensor, known: Tensor | None = None) -> Tensor:
        """Standard deviation of the rounding to the levels; see `OnLevels`."""
        grouped = in_groups(values, self.group)
        steps, _ = self.steps(grouped, None if known is None else in_groups(known, self.group))
        wide = steps[:, None].expand_as(grouped).reshape(len(values), -1)[:, : values.shape[1]]
        return wide / SQRT12

    def steps(self, grouped: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The step of each group, [n], and whether its values lie on it.

        Args:
            grouped: values, [n, g].
            known: how far each may be off at most; None: by its own rounding.
        """
        known = grouped.abs() * self.unit if known is None else known
        if not self.counts:
            return self._eight_bits(grouped, known)
        low, high = grouped.aminmax(dim=1)
        ends = torch.stack([grouped.argmin(1), grouped.argmax(1)], 1)
        step, least = (high - low) / max(self.counts), torch.full_like(low, torch.inf)
        for count in sorted(self.counts):
            tried = (high - low) / count
            off = self._off(grouped - low[:, None], tried, known, known.gather(1, ends))
            nearer = off < least / 2  # half a step is as good as the step
            step, least = torch.where(nearer, tried, step), torch.where(nearer, off, least)
        return step, (least <= OFF_STEPS) & (step > 0)

    def _eight_bits(self, grouped: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """The step of each group, and whether its values lie on it: of 127 to either side, or else of 255 in all."""
        low, high = grouped.aminmax(dim=1)
        off_low, off_high = (known.gather(1, at(1)[:, None]) for at in (grouped.argmin, grouped.argmax))
        if self.ends is not None:
            low, high = (torch.full_like(low, end) for end in self.ends)
            off_low, off_high = (self.unit * end.abs()[:, None] for end in (low, high))
        largest, off = torch.maximum(high, -low), torch.where((high >= -low)[:, None], off_high, off_low)
        step, on = largest / EIGHT_BITS, torch.zeros_like(low, dtype=torch.bool)
        for count, span, off_span in (
            (EIGHT_BITS, largest, off),
            *((count, high - low, off_low + off_high) for count in WITH_ZERO_POINT),
        ):
            tried = span / count
            found = self._mostly_on(grouped, tried, known, off_span / count)
            step, on = torch.where(found & ~on, tried, step), on | found
        return step, on

    @staticmethod
    def _off(above: Tensor, step: Tensor, known: Tensor, of_ends: Tensor) -> Tensor:
        """Mean square by which values miss whole steps, the more heeded the better they are known, [n].

        Args:
            above: values less the least one, [n, g].
            step: tried, [n].
            known, of_ends: how far values, and the ends from which the step comes, may be off, [n, g] and [n, 2].
        """
        one = step[:, None].clamp(min=1e-30)
        steps = above / one
        of_step = (steps / steps.amax(1, keepdim=True).clamp(min=1)).square()
        off = (known / one).square() + of_step * (of_ends / one).square().sum(1, keepdim=True)
        weights = 1 / (off / 3 + KNOWN)
        return (weights * (steps - steps.round()).square()).sum(1) / weights.sum(1)

    @staticmethod
    def _mostly_on(values: Tensor, step: Tensor, known: Tensor, of_step: Tensor) -> Tensor:
        """Whether values that are not too many steps to be known are near whole steps, bool [n]; see `_off`.

        Args:
            of_step: how far the step itself may be off, [n, 1].
        """
        one = step[:, None].clamp(min=1e-30)
        steps = values / one
        tells = (known + steps.abs() * of_step) / one <= MOSTLY_TELLS
        squares = ((steps - steps.round()).square() * tells).sum(1) / tells.sum(1).clamp(min=1)
        return (squares <= MOSTLY_OFF) & (tells.sum(1) >= TELLING) & (step > 0)


@dataclass(frozen=True, eq=False)
class OnColumnLevels(AsTheyAre):
    """Values as they are, with the rounding to evenly spaced levels of each column.

    Args:
        steps: of each column, [C].
        nearest: whether each weight of a sample was rounded by itself to one of the levels about it.
    """

    steps: Tensor
    nearest: bool = False
    like = "Q8_0"

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return torch.hypot(sigma, self.steps.to(sigma.device) / SQRT12)


def gaps_of_levels(grouped: Tensor, beyond: float = 1.0) -> Tensor:
    """Distance between the levels about each value, as far as other values of its group show them, [n, g]: that of an
    even lattice with the same error.

    Args:
        grouped: values, [n, g].
        beyond: how much farther outwards than inwards an end level takes values in.
    """
    ordered, order = grouped.sort(dim=1)
    step = ordered.diff(dim=1)
    infinite = torch.full_like(ordered, torch.inf)
    above, below = infinite.clone(), infinite.clone()
    above[:, :-1] = below[:, 1:] = step.masked_fill(step == 0, torch.inf)
    # Of equal values only the last has the next level above it: the others take it from there.
    ranks = torch.cat([torch.zeros_like(step[:, :1]), (step != 0).to(step.dtype)], dim=1).cumsum(1).long()
    above, below = (infinite.scatter_reduce(1, ranks, x, "amin").gather(1, ranks) for x in (above, below))
    above, below = (
        torch.where(above.isinf(), beyond * below, above),
        torch.where(below.isinf(), beyond * above, below),
    )
    gap = ((above.pow(3) + below.pow(3)) / (above + below)).sqrt()  # docs/noise.md, of reaches half as long
    return torch.zeros_like(grouped).scatter_(1, order, gap.nan_to_num(0.0, 0.0, 0.0))


def snapped(grouped: Tensor, known: Tensor) -> Tensor:
    """Values of which those that may be the same are: the mean of all that follow each other at no more than both may
    be off, [n, g].

    Args:
        grouped: values, [n, g].
        known: how far each may be off at most.

    >>> snapped(torch.tensor([[1.0, 3.0, 1.2, 2.9]]), torch.full((1, 4), 0.125)).tolist()
    [[1.100000023841858, 2.950000047683716, 1.100000023841858, 2.950000047683716]]
    """
    ordered, order = grouped.sort(dim=1)
    off = known.gather(1, order)
    apart = (ordered.diff(dim=1) > off[:, 1:] + off[:, :-1]).long()
    level = torch.cat([torch.zeros_like(apart[:, :1]), apart], dim=1).cumsum(1)
    means = torch.zeros_like(ordered).scatter_reduce_(1, level, ordered, "mean", include_self=False)
    return torch.zeros_like(grouped).scatter_(1, order, means.gather(1, level))


def on_levels(values: Tensor, known: Tensor | None, group: int) -> Tensor:
    """Rows cut into groups, [n, g], each value on its level where it may be off it."""
    grouped = in_groups(values, group)
    return grouped if known is None else snapped(grouped, in_groups(known, group))


def in_groups(x: Tensor, group: int) -> Tensor:
    """Rows cut into groups, [n, g]; a last one that is short is filled up with its last value."""
    if x.shape[1] % group:
        x = torch.cat([x, x[:, -1:].expand(-1, -x.shape[1] % group)], dim=1)
    return x.reshape(-1, group)
