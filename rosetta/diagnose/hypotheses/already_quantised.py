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


def lattice_of(weight: Weight, other: Weight) -> tuple[OnLevels, str] | None:
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
    return None


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
