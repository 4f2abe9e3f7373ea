"""A float weight whose values lie on a lattice of few levels: it was made from a quantised checkpoint
(`value.requantised`).

Letters: n = groups, g = weights of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta.diagnose.edits import SQRT12
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import changed
from rosetta.dtypes import FLOATS
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "value.requantised",
        means="The values of a float tensor lie on the few levels of a quantised format: they were quantised before.",
        why="A model is converted from a checkpoint that was loaded in four or eight bits (bitsandbytes, GPTQ, FP8), "
        "or from a quantised GGUF file, and stored as if it were the original.",
        repair="None undoes it: the original's values are lost. The rounding to those levels is taken for this side's, "
        "and explains the difference. Convert from the original checkpoint.",
        order=85,
        title="quantised before",
    ),
)

ROWS = 8  # sampled, from all over the matrix
GROUPS = (256, 128, 64, 32)  # weights that may share a scale, the most first
FOUR_BITS = 16  # levels of a group
SIGNIFICANDS = {8: "FP8 (E4M3)", 4: "FP8 (E5M2)"}  # of a float with so few bits, whatever the scale
HALVES = {"BF16": (torch.bfloat16, 128), "F16": (torch.float16, 1024)}  # floats of so many significands
FEWER = 0.75  # of the distinct values that the other side has in the same groups, at most: few by chance they are not
LEAST_LEVELS = 4  # in the middle group: one that is all zeros lies on every lattice
NF4 = (  # Dettmers et al. 2023, QLoRA, appendix E: quantiles of the normal distribution
    -1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.24611230, 0.33791524, 0.44070983, 0.56261700, 0.72295684, 1.0,
)  # fmt: skip
# bitsandbytes' E2M1 with its odd subnormal
FP4 = (0.0, 0.0625 / 12, 2 / 12, 3 / 12, 4 / 12, 6 / 12, 8 / 12, 1.0)
E2M1 = (0.0, 0.5 / 6, 1 / 6, 1.5 / 6, 2 / 6, 3 / 6, 4 / 6, 1.0)  # OCP Microscaling, 5.3.3
TABLES = {
    "NF4": NF4,
    "FP4": (*FP4, *(-x for x in FP4)),
    "FP4 (E2M1)": (*E2M1, *(-x for x in E2M1)),
}
SMALL = 2.0**-6  # of a group's largest value
EIGHT_BITS = 127  # levels to either side
# Of a step, to which a value must be known to tell whether it is a whole number of them; how many must tell; the
# arithmetic's own rounding; of the groups, how many lie on their levels.
TELLS, TELLING, LEAST_OFF, ON_LEVELS = 0.15, 6, 2e-3, 0.9
MOSTLY_TELLS, MOSTLY_OFF = 0.32, 0.035  # of a step; of its square, where chance has 1 / 12
OFF_TABLE = 2.0**-7  # of a group's largest value: a bfloat16's rounding of value and scale


@dataclass(frozen=True)
class OnLevels:
    """Values as they are, with the rounding to the few levels that they lie on.

    Args:
        group: weights that share the levels.
        significands: of a float of few bits, how many there are; 0 of levels that the values themselves show.
    """

    group: int
    significands: int

    def touches(self, start: int, stop: int) -> bool:
        return False  # only their noise does

    def values(self, values: Tensor, start: int) -> Tensor:
        return values

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        if self.significands:  # a step is at most the power of two below the value, over their number
            return torch.hypot(sigma, values.abs() / (self.significands * SQRT12))
        grouped = in_groups(values, self.group)
        gaps = gaps_of_levels(grouped).view(len(values), -1)[:, : values.shape[1]]
        return torch.hypot(sigma, gaps / SQRT12)


@dataclass(frozen=True)
class OnEvenLevels:
    """Values as they are, with the rounding to evenly spaced levels, more than a group's own values show.

    Args:
        group: weights that share a step.
        counts: into how many steps the range of a group may be cut; none: its largest value is 127 of them.
        unit: relative rounding of the values themselves.
    """

    group: int
    counts: tuple[int, ...]
    unit: float

    def touches(self, start: int, stop: int) -> bool:
        return False  # only their noise does

    def values(self, values: Tensor, start: int) -> Tensor:
        return values

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        grouped = in_groups(values, self.group)
        steps, _ = self.steps(grouped)
        wide = steps[:, None].expand_as(grouped).reshape(len(values), -1)[:, : values.shape[1]]
        return torch.hypot(sigma, wide / SQRT12)

    def steps(self, grouped: Tensor) -> tuple[Tensor, Tensor]:
        """The step of each group, [n], and whether all of its values that tell lie on it."""
        if not self.counts:
            step = grouped.abs().amax(1) / EIGHT_BITS
            return step, self._mostly_on(grouped, step)
        low, high = grouped.aminmax(dim=1)
        found = torch.zeros_like(low, dtype=torch.bool)
        step = (high - low) / max(self.counts)
        for count in sorted(self.counts):
            tried = (high - low) / count
            lies = self._lies_on(grouped, grouped - low[:, None], tried) & ~found
            step, found = torch.where(lies, tried, step), found | lies
        return step, found

    def _lies_on(self, values: Tensor, above: Tensor, step: Tensor) -> Tensor:
        """Whether values that are known to a part of a step are whole steps above an end of their group, bool [n]."""
        steps = above / step[:, None].clamp(min=1e-30)
        known = self.unit * (
            values.abs() / step[:, None].clamp(min=1e-30) + 2 * steps.abs()
        )  # the step's rounding, too
        tells = known <= TELLS
        off = (steps - steps.round()).abs() > known + LEAST_OFF
        return ~(off & tells).any(1) & (tells.sum(1) >= min(TELLING, values.shape[1] // 2)) & (step > 0)

    def _mostly_on(self, values: Tensor, step: Tensor) -> Tensor:
        """Whether values that are not too many steps to be known are near whole steps, bool [n]."""
        steps = values / step[:, None].clamp(min=1e-30)
        tells = 2 * self.unit * steps.abs() <= MOSTLY_TELLS  # its own rounding, and the step's
        squares = ((steps - steps.round()).square() * tells).sum(1) / tells.sum(1).clamp(min=1)
        return (squares <= MOSTLY_OFF) & (tells.sum(1) >= TELLING) & (step > 0)


def even_levels(a: Tensor, b: Tensor, dtype: str) -> tuple[OnEvenLevels, str] | None:
    """The evenly spaced levels of more than four bits that some rows lie on, where the other side's do not.

    Args:
        a, b: rows of both sides, b rounded to a's dtype, [R, C].
        dtype: of a.
    """
    unit = 2.0 ** -(FLOATS[dtype].mantissa_bits or 23) / 2
    ways = [(OnEvenLevels(group, (), unit), "eight bits") for group in (a.shape[1], 128, 64, 32)]
    ways += [(OnEvenLevels(group, tuple(range(4, 64)), unit), "five or six bits") for group in (32, 16)]
    for way, name in ways:
        if way.group > a.shape[1] or a.shape[1] % way.group:
            continue
        mine, theirs = (float(way.steps(in_groups(x, way.group))[1].float().mean()) for x in (a, b))
        if mine >= ON_LEVELS and theirs <= mine / 2:
            return way, f"{name} in groups of {way.group}"
    return None


def gaps_of_levels(grouped: Tensor) -> Tensor:
    """Distance between the levels about each value, as far as other values of its group show them, [n, g]: that of an
    even lattice with the same error."""
    ordered, order = grouped.sort(dim=1)
    step = ordered.diff(dim=1)
    infinite = torch.full_like(ordered, torch.inf)
    above, below = infinite.clone(), infinite.clone()
    above[:, :-1] = below[:, 1:] = step.masked_fill(step == 0, torch.inf)
    # Of equal values only the last has the next level above it: the others take it from there.
    ranks = torch.cat([torch.zeros_like(step[:, :1]), (step != 0).to(step.dtype)], dim=1).cumsum(1).long()
    above, below = (infinite.scatter_reduce(1, ranks, x, "amin").gather(1, ranks) for x in (above, below))
    above, below = torch.where(above.isinf(), below, above), torch.where(below.isinf(), above, below)
    gap = ((above.pow(3) + below.pow(3)) / (above + below)).sqrt()  # docs/noise.md, of reaches half as long
    return torch.zeros_like(grouped).scatter_(1, order, gap.nan_to_num(0.0, 0.0, 0.0))


def propose(fault: Fault) -> Iterator[Proposal]:
    """The lattice that each accused float matrix lies on, where the other side's does not."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims:
            continue
        if weight.dtype not in FLOATS or len(weight.dims) != 2:
            continue
        lattice = lattice_of(weight, other)
        if lattice is None:
            continue
        edit, name = lattice
        yield Proposal(
            kind="value.requantised",
            role=suspect.role,
            repair=changed(suspect.model, weight, edit),
            tensor=weight.name,
            declared=weight.dtype,
            actual=name,
            message=f"{weight.name} is stored as {weight.dtype} and lies on the lattice of {name}: it was made from a "
            "quantised checkpoint, whose rounding explains the difference",
            recommendation=f"convert {weight.entry.name} from the original checkpoint: no export brings back what was "
            "rounded away",
            moves=False,
        )


def lattice_of(weight: Weight, other: Weight) -> tuple[OnLevels | OnEvenLevels, str] | None:
    """The lattice of a matrix and its name; None where its values are no fewer than the other side's."""
    step = max(1, weight.dims[0] // ROWS)
    rows = list(range(step // 2, weight.dims[0], step))[:ROWS]
    a, b = weight.rows(rows), other.rows(rows).to(_torch_dtype(weight.dtype)).float()
    if not bool(a.isfinite().all() and b.isfinite().all()):
        return None
    for group in GROUPS:
        if a.shape[1] % group:
            continue
        mine, theirs = (in_groups(x, group) for x in (a, b))
        if _fewer(_distinct(mine), _distinct(theirs), FOUR_BITS):
            return OnLevels(group, 0), f"{_name(mine)} in groups of {group}"
    whole = in_groups(a, min(128, a.shape[1])), in_groups(b, min(128, b.shape[1]))
    for count, name in sorted(SIGNIFICANDS.items()):
        mine, theirs = (_distinct(_significands(x)) for x in whole)
        if _fewer(mine, theirs, count):
            return OnLevels(whole[0].shape[1], count), name
    for name, (dtype, count) in HALVES.items():
        was, is_other = (bool((x.to(dtype).float() == x).all()) for x in (a, b))
        if weight.dtype == "F32" and was and not is_other:
            return OnLevels(whole[0].shape[1], count), name
    return even_levels(a, b, weight.dtype)


def in_groups(x: Tensor, group: int) -> Tensor:
    """Rows cut into groups, [n, g]; a last one that is short is filled up with its last value."""
    if x.shape[1] % group:
        x = torch.cat([x, x[:, -1:].expand(-1, -x.shape[1] % group)], dim=1)
    return x.reshape(-1, group)


def _distinct(grouped: Tensor) -> Tensor:
    """How many values each group has, [n]."""
    return (grouped.sort(dim=1).values.diff(dim=1) != 0).sum(1) + 1


def _significands(x: Tensor) -> Tensor:
    """The significands of each group's larger values; in the smaller ones' place the largest one's, for they may be
    subnormal in either format."""
    size = x.abs()
    largest = size.amax(1, keepdim=True)
    return torch.frexp(torch.where(size >= SMALL * largest, size, largest)).mantissa


def _fewer(mine: Tensor, theirs: Tensor, most: int) -> bool:
    """Whether all groups have few values, and the other side's more: a small group has few of any kind."""
    if int(mine.max()) > most:
        return False
    usual = float(mine.double().median())
    return usual >= min(LEAST_LEVELS, most) and usual <= FEWER * float(theirs.double().median())


def _name(grouped: Tensor) -> str:
    """What format has such levels: one whose table holds them, or evenly spaced ones."""
    largest = grouped.abs().amax(1, keepdim=True)
    scaled = (grouped / largest.clamp(min=1e-30))[largest[:, 0] > 0]
    for name, table in TABLES.items():
        levels = scaled.new_tensor(table)
        if float((scaled[..., None] - levels).abs().amin(-1).max()) <= OFF_TABLE:
            return name
    return "a four-bit format (such as GPTQ, AWQ, Q4_0)"


def _torch_dtype(dtype: str) -> torch.dtype:
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(dtype, torch.float32)
