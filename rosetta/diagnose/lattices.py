"""The few levels on which the values of a float weight lie that was quantised before, and the rounding to them.

Letters: R = rows, C = columns, n = groups, g = weights of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rosetta.compare.kept_order import levels_out_of_order
from rosetta.compare.trait import LEAST
from rosetta.diagnose.edits import SQRT12
from rosetta.dtypes import FLOATS
from rosetta.weight import Weight, row_ranges
from rosetta.workers import spread

ROWS = 8  # sampled
GROUPS = (256, 128, 64, 32, 16)  # weights that may share a scale, the most first
FOUR_BITS_EVEN, SIX_BITS = tuple(range(2, 16)), tuple(range(4, 64))  # steps of a group
TWO_ROUNDINGS = 2.0**-7  # of a group's largest value: of its source to BF16, and of the other side
HALF_OF_IT = 1.6  # times the levels of half a group: more are those of two scales
FOUR_BITS = 16  # levels of a group
SIGNIFICANDS = {8: "FP8 (E4M3)", 4: "FP8 (E5M2)"}  # of a float with so few bits, whatever the scale
HALVES = {"BF16": (torch.bfloat16, 128), "F16": (torch.float16, 1024)}  # floats of so many significands
FEWER = 0.75  # of the distinct values that the other side has in the same groups, at most: few by chance they are not
# So few weights have few values of any kind: of five bits 0.77, of four and a half (NVFP4) 0.63.
FEWER_OF_16 = 0.7
LEAST_LEVELS = 2  # in the middle group: one that is all zeros lies on every lattice
PRUNED = 0.9  # of the values that differ, those that are nought on one side alone
TERNARY = 3
NF4 = (  # Dettmers et al. 2023, QLoRA, appendix E: quantiles of the normal distribution
    -1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.24611230, 0.33791524, 0.44070983, 0.56261700, 0.72295684, 1.0,
)  # fmt: skip
# bitsandbytes' E2M1 with its odd subnormal
FP4 = (0.0, 0.0625 / 12, 2 / 12, 3 / 12, 4 / 12, 6 / 12, 8 / 12, 1.0)
E2M1 = (0.0, 0.5 / 6, 1 / 6, 1.5 / 6, 2 / 6, 3 / 6, 4 / 6, 1.0)  # OCP Microscaling, 5.3.3
E2M1_NAME, POWERS_OF_TWO = "FP4 (E2M1, such as NVFP4)", "MXFP4 (E2M1, scales that are powers of two)"
OTHER_NAME = "a format of four bits and less (such as GPTQ, AWQ, Q4_0, Q2_K)"
TERNARY_NAME = "ternary weights (such as TQ1_0, TQ2_0, BitNet)"
LIKE = {POWERS_OF_TWO: "MXFP4", E2M1_NAME: "NVFP4", TERNARY_NAME: "TQ2_0"}
TABLES = {
    "NF4": NF4,
    "FP4": (*FP4, *(-x for x in FP4)),
    E2M1_NAME: (*E2M1, *(-x for x in E2M1)),
}
TOPS = (1.0, 4 / 6, 3 / 6)  # of E2M1: the level of a group's largest value, where the scale was rounded
SMALL = 2.0**-6  # of a group's largest value
KNOWN_PART = 2.0**-6  # of a value, by which it may be off and still tell its significand of three bits
EIGHT_BITS = 127  # levels to either side
# Steps between the ends of a group that has a zero point: the ends themselves were rounded to them.
WITH_ZERO_POINT = (255, 254, 256)
TELLING = 6  # values that tell whether they are whole numbers of a step
ON_LEVELS = 0.9  # of the groups, how many lie on their levels
# Of a step's square, by how much values miss whole steps, where chance has 1 / 12 and, of the best of sixty steps,
# 0.044 and 0.027 (a tenth of groups of 32 and of 16); six bits in BF16 have 0.003 (nine tenths).
OFF_STEPS, KNOWN = 0.01, 0.003
MOSTLY_TELLS, MOSTLY_OFF = 0.32, 0.035  # of a step; of its square
OFF_TABLE = 2.0**-7  # of a group's largest value: a bfloat16's rounding of value and scale


@dataclass(frozen=True)
class OnLevels:
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

    def touches(self, start: int, stop: int) -> bool:
        return False  # only their noise does

    def values(self, values: Tensor, start: int) -> Tensor:
        return values

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
        grouped = _on_levels(values, known, self.group)
        return gaps_of_levels(grouped, self.beyond).view(len(values), -1)[:, : values.shape[1]] / SQRT12


@dataclass(frozen=True)
class OnEvenLevels:
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

    def touches(self, start: int, stop: int) -> bool:
        return False  # only their noise does

    def values(self, values: Tensor, start: int) -> Tensor:
        return values

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
class OnColumnLevels:
    """Values as they are, with the rounding to evenly spaced levels of each column.

    Args:
        steps: of each column, [C].
        nearest: whether each weight of a sample was rounded by itself to one of the levels about it.
    """

    steps: Tensor
    nearest: bool = False
    like = "Q8_0"

    def touches(self, start: int, stop: int) -> bool:
        return False  # only their noise does

    def values(self, values: Tensor, start: int) -> Tensor:
        return values

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return torch.hypot(sigma, self.steps.to(sigma.device) / SQRT12)


def sampled(weight: Weight) -> list[int]:
    """Some rows, from all over a matrix."""
    step = max(1, weight.dims[0] // ROWS)
    return list(range(step // 2, weight.dims[0], step))[:ROWS]


def lattice_of(weight: Weight, other: Weight) -> tuple[OnLevels | OnEvenLevels | OnColumnLevels, str] | None:
    """The lattice of a matrix and its name; None where its values are no fewer than the other side's."""
    rows = sampled(weight)
    a, theirs = weight.rows(rows), other.rows(rows)
    if other.dtype not in FLOATS:  # its levels are its own dtype's, and were none before
        drawn = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0))
        theirs = theirs + drawn * other.sigma_rows(rows)
    b = rounded(theirs, weight.dtype)
    found = (
        lattice_of_rows(a, b, unit_of(weight.dtype))
        or _one_grid(weight, other, a, b)
        or _of_columns(weight, other)
    )
    if found is None and weight.dtype == "F32":
        off = math.sqrt(3) * other.sigma_rows(rows)  # the largest error where √(s² / 12) is its deviation
        cut = _cut_off(a, other.rows(rows), weight.dtype, off) if other.dtype in FLOATS else None
        return cut or _halves(a, b)
    return found


def _of_columns(weight: Weight, other: Weight) -> tuple[OnLevels | OnColumnLevels, str] | None:
    """The eight bits that columns of a matrix have, each with a scale of its own, where the other side's do not."""
    step = max(1, weight.dims[1] // ROWS)
    some = list(range(step // 2, weight.dims[1], step))[:ROWS]
    a, theirs = (_some_columns(copy, some) for copy in (weight, other))
    b = rounded(theirs, weight.dtype)
    if not bool(a.isfinite().all() and b.isfinite().all()) or _is_pruned(a, b):
        return None
    way = OnEvenLevels(a.shape[1], (), unit_of(weight.dtype))
    if _even_levels(a, b, [way]) is not None:
        steps, _ = way.steps(weight.values().T.contiguous())
        return OnColumnLevels(steps, _keeps_order(a, b, way.group)), "eight bits with a scale for each column"
    if (found := _few_significands(a, b)) is not None:
        return replace(found[0], nearest=_keeps_order(a, b, found[0].group)), found[1]
    return None


def _some_columns(weight: Weight, some: Sequence[int]) -> Tensor:
    """Some columns of a matrix, turned: [n, R]."""
    of_ranges = spread(lambda rows: weight.values(*rows)[:, some], row_ranges(weight))
    return torch.cat(of_ranges).T.contiguous()


def _one_grid(weight: Weight, other: Weight, a: Tensor, b: Tensor) -> tuple[OnEvenLevels, str] | None:
    """The steps that all values of a matrix are whole numbers of, where the other side's are not; see `_few_levels`."""
    if not bool(a.isfinite().all() and b.isfinite().all()):
        return None
    way = OnEvenLevels(a.shape[1], (), unit_of(weight.dtype), ends=_ends(weight))
    mine = float(way.steps(a)[1].float().mean())
    if mine < ON_LEVELS or float(replace(way, ends=_ends(other)).steps(b)[1].float().mean()) > mine / 2:
        return None
    return replace(way, nearest=_keeps_order(a, b, a.shape[1])), "eight bits with one scale"


def _ends(weight: Weight) -> tuple[float, float]:
    """The least and the largest value of a matrix."""
    of_ranges = spread(lambda rows: weight.values(*rows).aminmax(), row_ranges(weight))
    return float(min(r.min for r in of_ranges)), float(max(r.max for r in of_ranges))


def lattice_of_rows(
    a: Tensor, b: Tensor, unit: float, known: Tensor | None = None
) -> tuple[OnLevels | OnEvenLevels, str] | None:
    """The lattice that some rows lie on and others do not, and its name.

    Args:
        a, b: rows of both copies, b rounded as a is, [R, C].
        unit: relative rounding of the values themselves.
        known: how far each value of both may be off its level at most, [R, C]; None: not at all.
    """
    if not bool(a.isfinite().all() and b.isfinite().all()) or _is_pruned(a, b):
        return None
    found = (
        _few_levels(a, b, unit, known)
        or _even_levels(a, b, [OnEvenLevels(group, (), unit) for group in (a.shape[1], 128, 64, 32)], known)
        or _even_levels(a, b, [OnEvenLevels(group, SIX_BITS, unit) for group in (32, 16)], known)
        or _few_significands(a, b, known)
    )
    if found is None:
        return None
    edit, name = found
    return replace(edit, nearest=_keeps_order(a, b, edit.group)), name


def unit_of(dtype: str) -> float:
    """By how much a float dtype rounds a value at most, relative to it."""
    return 2.0 ** -(FLOATS[dtype].mantissa_bits or 23) / 2


def rounded(values: Tensor, dtype: str) -> Tensor:
    """Values as a float dtype holds them."""
    return values.to(_torch_dtype(dtype)).float()


def _is_pruned(a: Tensor, b: Tensor) -> bool:
    """Whether two copies differ in little but values that one of them has lost: few are left then, and on no levels."""
    differ = (a - b).abs() > TWO_ROUNDINGS * b.abs()
    return int((differ & (a == 0)).sum()) > PRUNED * int(differ.sum())


def _few_levels(
    a: Tensor, b: Tensor, unit: float, known: Tensor | None = None
) -> tuple[OnLevels, str] | None:
    """The levels of four bits and less that some rows lie on, by the largest groups that share one scale; see
    `lattice_of_rows`."""
    for group in GROUPS:
        if a.shape[1] % group:
            continue
        mine, theirs = (_on_levels(x, known, group) for x in (a, b))
        levels = _distinct(mine)
        fewer = FEWER_OF_16 if group == min(GROUPS) else FEWER
        if not _fewer(levels, _distinct(theirs), FOUR_BITS, fewer):
            continue
        halves = _distinct(in_groups(mine, group // 2))
        usual, of_half = (float(x.double().median()) for x in (levels, halves))
        if group > min(GROUPS) and usual > HALF_OF_IT * of_half:
            continue
        name = _name(mine, unit)
        like = LIKE.get(name, "Q2_K" if group == min(GROUPS) else "Q4_K")
        edit = OnLevels(group, 0, 2.0 if name == POWERS_OF_TWO else 1.0, like=like)
        return edit, f"{name} in groups of {group}"
    return None


def _few_significands(a: Tensor, b: Tensor, known: Tensor | None = None) -> tuple[OnLevels, str] | None:
    """The floats of eight bits that some rows are, whatever their scale, by the largest groups that share one; see
    `lattice_of_rows`."""
    for group in (min(128, a.shape[1]), 64, 32):
        off = None if known is None else in_groups(known, group)
        mine, theirs = (_distinct(_significands(in_groups(x, group), off)) for x in (a, b))
        for count, name in sorted(SIGNIFICANDS.items()):
            if _fewer(mine, theirs, count):
                return OnLevels(group, count), name
    return None


def _halves(a: Tensor, b: Tensor) -> tuple[OnLevels, str] | None:
    """The floats of sixteen bits that some rows were; see `_few_levels`."""
    for name, (dtype, count) in HALVES.items():
        was, is_other = (bool((x.to(dtype).float() == x).all()) for x in (a, b))
        if was and not is_other:
            return OnLevels(min(128, a.shape[1]), count), name
    return None


def halves_of_vector(weight: Weight, other: Weight) -> tuple[OnLevels, str] | None:
    """The float of sixteen bits that a norm or a bias was rounded to before it was stored as float32."""
    a, b = weight.values()[None], other.values()[None]
    if (cut := _cut_off(a, b, weight.dtype)) is not None:
        return cut
    found = _halves(a, b) if weight.dtype == "F32" else None
    if found is None or not bool(((a - b).abs() <= 2 / found[0].significands * b.abs()).all()):
        return None
    return found


def _cut_off(a: Tensor, b: Tensor, dtype: str, off: Tensor | float = 0.0) -> tuple[OnLevels, str] | None:
    """The float of sixteen bits that some values were cut off to instead of rounded: none is farther from nought than
    the other side's, nor nearer by a step, and those that differ are many.

    Args:
        a, b: the values of both copies, [R, C].
        dtype: that the first are stored as.
        off: how far the other side's may be off by its own rounding, [R, C].
    """
    for name, (half, count) in HALVES.items():
        if dtype not in ("F32", name) or not bool((a.to(half).float() == a).all()):
            continue
        less = b.abs() - a.abs()
        towards_nought = (
            (less >= -off) & (less <= b.abs() / count + off) & ((a * b > 0) | (less.abs() <= off))
        )
        # Rounded, as many would be farther as are nearer: that all are nearer is chance once in 2^n.
        if bool(towards_nought.all()) and int((less > off).sum()) >= LEAST:
            return OnLevels(min(128, a.shape[1]), count, cut=True), f"{name}, cut off instead of rounded"
    return None


def _even_levels(
    a: Tensor, b: Tensor, ways: Sequence[OnEvenLevels], known: Tensor | None = None
) -> tuple[OnEvenLevels, str] | None:
    """The evenly spaced levels of more than four bits that some rows lie on, where the other side's do not; see
    `lattice_of_rows`."""
    for way in ways:
        if way.group > a.shape[1] or a.shape[1] % way.group:
            continue
        off = None if known is None else in_groups(known, way.group)
        mine, theirs = (float(way.steps(in_groups(x, way.group), off)[1].float().mean()) for x in (a, b))
        if mine >= ON_LEVELS and theirs <= mine / 2:
            return way, f"{'five or six' if way.counts else 'eight'} bits in groups of {way.group}"
    return None


def _keeps_order(a: Tensor, b: Tensor, group: int) -> bool:
    """Whether of two weights of a group the larger one never lies on a lower level: an encoder that rounds each by
    itself leaves that, whatever its scale was fitted to, and other weights do not (docs/noise.md, "Order").

    Args:
        a, b: rows on levels, and those that they may have been made from, [R, C].
        group: weights that share the levels.
    """
    v, x = in_groups(a, group), in_groups(b, group)
    broken, _ = levels_out_of_order(v, x, x.abs().amax(1, keepdim=True) * TWO_ROUNDINGS)
    return broken == 0


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


def _on_levels(values: Tensor, known: Tensor | None, group: int) -> Tensor:
    """Rows cut into groups, [n, g], each value on its level where it may be off it."""
    grouped = in_groups(values, group)
    return grouped if known is None else snapped(grouped, in_groups(known, group))


def in_groups(x: Tensor, group: int) -> Tensor:
    """Rows cut into groups, [n, g]; a last one that is short is filled up with its last value."""
    if x.shape[1] % group:
        x = torch.cat([x, x[:, -1:].expand(-1, -x.shape[1] % group)], dim=1)
    return x.reshape(-1, group)


def _distinct(grouped: Tensor) -> Tensor:
    """How many values each group has, [n]."""
    return (grouped.sort(dim=1).values.diff(dim=1) != 0).sum(1) + 1


def _significands(x: Tensor, known: Tensor | None = None) -> Tensor:
    """The significands of each group's larger values; in the smaller ones' place the largest one's, for they may be
    subnormal in either format.

    Args:
        x: values, [n, g].
        known: how far each may be off at most: those that may be off by more than a part are small, too.
    """
    size = x.abs()
    largest, at = size.max(1, keepdim=True)
    tells = size >= SMALL * largest
    if known is None:
        return torch.frexp(torch.where(tells, size, largest)).mantissa
    tells &= known <= KNOWN_PART * size
    size, known = torch.where(tells, size, largest), torch.where(tells, known, known.gather(1, at))
    # On a circle: a significand just below one is next to one just above a half.
    turns = torch.log2(size.clamp(min=1e-30)).remainder(1)
    ordered = turns.sort(dim=1).values
    gaps = torch.cat([ordered.diff(dim=1), ordered[:, :1] + 1 - ordered[:, -1:]], dim=1)
    start = ordered.gather(1, (gaps.argmax(1, keepdim=True) + 1) % x.shape[1])
    return snapped((turns - start).remainder(1), known / size.clamp(min=1e-30) / math.log(2))


def _fewer(mine: Tensor, theirs: Tensor, most: int, part: float = FEWER) -> bool:
    """Whether all groups have few values, and the other side's more: a small group has few of any kind."""
    if int(mine.max()) > most:
        return False
    usual = float(mine.double().median())
    return usual >= min(LEAST_LEVELS, most) and usual <= part * float(theirs.double().median())


def _name(grouped: Tensor, unit: float) -> str:
    """What format has such levels: one whose table holds them, or evenly spaced ones.

    Args:
        grouped: values, [n, g].
        unit: their relative rounding.
    """
    largest = grouped.abs().amax(1, keepdim=True)
    used = largest[:, 0] > 0
    scaled = (grouped / largest.clamp(min=1e-30))[used]
    if int(_distinct(grouped).max()) <= TERNARY and bool(((scaled == 0) | (scaled.abs() == 1)).all()):
        return TERNARY_NAME
    for name, table in TABLES.items():
        levels = scaled.new_tensor(table)
        if float((scaled[..., None] - levels).abs().amin(-1).max()) <= OFF_TABLE:
            return name
    levels, tops = scaled.new_tensor(TABLES[E2M1_NAME]), scaled.new_tensor(TOPS)
    off = ((scaled[:, None] * tops[:, None])[..., None] - levels).abs().amin(-1).amax(-1)  # [n, tops]
    evenly = OnEvenLevels(grouped.shape[1], FOUR_BITS_EVEN, unit).steps(grouped)[1].float().mean()
    if float(off.amin(1).max()) > OFF_TABLE or float(evenly) >= ON_LEVELS:
        return OTHER_NAME
    top = tops[(off <= OFF_TABLE).int().argmax(1)]
    mantissa = torch.frexp(largest[used, 0] / (6 * top)).mantissa
    return POWERS_OF_TWO if float((mantissa - 0.5).abs().max()) <= OFF_TABLE else E2M1_NAME


def _torch_dtype(dtype: str) -> torch.dtype:
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(dtype, torch.float32)
