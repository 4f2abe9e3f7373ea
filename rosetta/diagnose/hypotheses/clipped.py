"""Values that were cut off at a bound (`value.clipped`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from rosetta.compare.kept_order import keeps_order
from rosetta.compare.weights import compare_weights
from rosetta.diagnose.hypothesis import Fault, Proposal, Suspect
from rosetta.diagnose.lattices import lattice_of
from rosetta.diagnose.levels import OnLevels
from rosetta.diagnose.patches import of_weights, taking
from rosetta.diagnose.wrong_pair import BEYOND
from rosetta.dtypes import FLOATS
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight, row_ranges
from rosetta.weight_cache import variance
from rosetta.workers import spread

KINDS = (
    FindingKind(
        "value.clipped",
        means="The values of a tensor that lie beyond a bound were cut off to it.",
        why="A checkpoint went through a dtype of less range (float16 ends at 65504), or an exporter clamps outliers "
        "before it quantises.",
        repair="What was cut off is taken from the reference, and the proof says how many values. Convert without the "
        "clamp, from a checkpoint that holds them.",
        order=80,
        title="clipped",
        together="have values that were cut off at a bound, each at its own: a clamp or a dtype of less range on the "
        "way",
    ),
)

TAKES_FROM_REFERENCE = True
LARGEST_F16 = 65504.0
FEWEST = 8  # values at a bound; of float16's own, which no other cause gives, one will do
MOST = 0.5  # of a tensor's values: of what is cut off beyond that the bound is nearly all that is left
STRAYS = 4  # standard deviations of the rounding within which a value may be what the other side holds
GROUPS = (128, 64, 32)  # columns that may have a bound of their own, as AWQ's clipping has them
FEWEST_AT_BOUND = 2.0  # values, on average of the groups that were cut off
KEPT = 1 << 12  # values of a range of rows


@dataclass(frozen=True)
class Clamped:
    """Values cut off at bounds, to see whether what another file holds are these."""

    low: float
    high: float

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        return values.clamp(self.low, self.high)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return sigma


@dataclass(frozen=True, eq=False)
class ClampedCells:
    """Values cut off at a bound of each group of columns of each row; see `Clamped`.

    Args:
        bounds: of each group, infinite where nothing was cut off, [R, n].
        width: columns of a group.
    """

    bounds: Tensor
    width: int

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        own = self.bounds[start : start + len(values)].to(values.device)
        bounds = own.repeat_interleave(self.width, dim=1)[:, : values.shape[1]]
        return values.clamp(-bounds, bounds)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return sigma


Clamp = Clamped | ClampedCells


@dataclass(frozen=True)
class Beyond:
    """Which values of the other side's copy lie beyond the bounds; see `edits.Mask`."""

    other: Weight = field(hash=False)
    clamp: Clamp

    def __call__(self, start: int, values: Tensor) -> Tensor:
        there = self.other.values(start, start + len(values), values.device)
        return (there - self.clamp.values(there, start)).abs() > 0


def propose(fault: Fault) -> Iterator[Proposal]:
    """The bounds at which each accused weight ends where the other side's goes on; or the believed one, where it is."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims:
            continue
        believed = fault.reference if suspect.role == "subject" else fault.subject
        for side, clipped, whole in ((suspect, weight, other), (believed, other, weight)):
            clamp = bounds(clipped, whole)
            if clamp is None:
                yield from _by_cells(side, clipped, whole)
                continue
            if _on_few_levels(clipped, whole):
                continue
            parts = spread(partial(_cut_off, clipped, whole, clamp), row_ranges(whole))
            count, cut = (sum(part[i] for part in parts) for i in range(2))
            # Beneath a coarse dtype the last level is a bound of any weights: what is cut off must be more than noise.
            if 0 < count <= MOST * whole.count and cut > BEYOND**2 * count:
                yield _at_one_bound(side, clipped, whole, clamp, int(count))
            break


def _on_few_levels(weight: Weight, other: Weight) -> bool:
    """Whether a copy was decoded from four bits or less, whose last level is a bound of all."""
    if weight.dtype not in FLOATS or len(weight.dims) != 2:
        return False
    lattice = lattice_of(weight, other)
    return lattice is not None and isinstance(lattice[0], OnLevels) and not lattice[0].significands


def _by_cells(side: Suspect, weight: Weight, other: Weight) -> Iterator[Proposal]:
    """Rows, or groups of each, that end at a bound of their own where the other side's go on."""
    if weight.dtype not in FLOATS or len(weight.dims) != 2:
        return
    for width in (weight.dims[1], *GROUPS):
        if width > weight.dims[1] or weight.dims[1] % width:
            continue
        cells, cut, at_bound = _cells(weight, other, width)
        if at_bound < FEWEST_AT_BOUND * cut or cut < MOST * cells.bounds.numel():
            continue  # a bound at which one value lies is any value
        clamped = replace(other, values_edits=(*other.values_edits, cells))
        if compare_weights(weight, clamped).state == "differing":
            continue
        parts = spread(partial(_cut_off, weight, other, cells), row_ranges(other))
        count = sum(beyond for beyond, _ in parts)
        if count <= MOST * other.count:
            yield _at_bounds_of_cells(side, weight, other, cells, count)
        return


def _cells(weight: Weight, other: Weight, width: int) -> tuple[ClampedCells, int, int]:
    """The bounds of all groups of so many columns; how many groups were cut off, and how many values lie at those
    groups' bounds."""

    def part(rows: tuple[int, int]) -> tuple[Tensor, int]:
        a, b = (w.values(*rows).abs().view(-1, weight.dims[1] // width, width) for w in (weight, other))
        sigma = variance(weight, other, *rows).sqrt().view_as(a)
        bound = a.amax(-1, keepdim=True)
        lost = (b - bound > STRAYS * sigma).any(-1, keepdim=True)
        at_bound = int(((a == bound) & lost).sum())
        return torch.where(lost, bound, torch.inf)[..., 0].cpu(), at_bound

    parts = spread(part, row_ranges(weight))
    bounds = torch.cat([of_rows for of_rows, _ in parts])
    return ClampedCells(bounds, width), int(bounds.isfinite().sum()), sum(count for _, count in parts)


def _cut_off(clipped: Weight, whole: Weight, clamp: Clamp, rows: tuple[int, int]) -> tuple[int, float]:
    """How many values of some rows lie beyond the bounds, and the sum of squares of what was cut off of them, each in
    units of its rounding."""
    there, explained = whole.values(*rows).double(), variance(clipped, whole, *rows).double()
    over = there - clamp.values(there, rows[0])
    return int(over.count_nonzero()), float((over.square() / explained.clamp(min=1e-30)).sum())


def bounds(weight: Weight, other: Weight) -> Clamped | None:
    """The ends at which a copy was cut off, infinite where it was not; None where that does not explain it."""
    high, low = _end(weight, other, 1.0), -_end(weight, other, -1.0)
    if high == -low == torch.inf:
        return None
    ways = [Clamped(low, high)]
    if -low < torch.inf and high < torch.inf:  # of both signs one bound, which rounding moved
        both = (high - low) / 2
        ways = [Clamped(-both, both), *ways]
    for way in ways:
        clamped = replace(other, values_edits=(*other.values_edits, way))
        agrees = compare_weights(weight, clamped).state != "differing"
        # To cut off keeps the order of values, which another cause beneath a coarse dtype does not.
        if agrees and keeps_order((weight, clamped)) is not False:
            return way
    return None


def _end(weight: Weight, other: Weight, sign: float) -> float:
    """The bound of the positive values, or with −1 of the negative ones, by its size: what a copy has where the other
    one has more; infinite where these are too few or not alike."""

    def part(rows: tuple[int, int]) -> Tensor:
        a, b = (sign * w.values(*rows) for w in (weight, other))
        sigma = variance(weight, other, *rows).sqrt()
        less = (a > 0) & (b - a > STRAYS * sigma)
        return torch.stack([a[less], sigma[less]])[:, :KEPT].double().cpu()

    found, sigma = torch.cat(spread(part, row_ranges(weight)), dim=1)
    if not len(found) or not bool(found.isfinite().all()):
        return torch.inf
    end = float(found.median())
    alike = (found - end).abs() <= STRAYS * sigma
    enough = len(found) >= FEWEST or end == LARGEST_F16
    return end if enough and bool(alike.double().mean() > MOST) else torch.inf


def _at_bounds_of_cells(
    suspect: Suspect, weight: Weight, other: Weight, cells: ClampedCells, count: int
) -> Proposal:
    bounds = cells.bounds[cells.bounds.isfinite()]
    low, high = float(bounds.min()), float(bounds.max())
    what = "row" if cells.width == weight.dims[1] else f"group of {cells.width} columns of a row"
    where = f"{weight.name}: each {what} is cut off at a bound of its own, {low:.4g} to {high:.4g}"
    return _proposal(suspect, weight, Beyond(other, cells), where, "a clamp", count)


def _at_one_bound(suspect: Suspect, weight: Weight, other: Weight, clamp: Clamped, count: int) -> Proposal:
    low, high = clamp.low, clamp.high
    ends = [f"{end:.6g}" for end in (low, high) if abs(end) < torch.inf]
    at = f"±{high:.6g}" if low == -high else " and ".join(ends)
    of_float16 = LARGEST_F16 in (high, -low)
    dtype = ", the largest that float16 holds" if of_float16 else ""
    where = f"{weight.name} is cut off at {at}{dtype}"
    cutting = "float16 on the way" if of_float16 else "a clamp"
    found = _proposal(suspect, weight, Beyond(other, clamp), where, cutting, count)
    return replace(found, actual=high if high < torch.inf else low)


def _proposal(
    suspect: Suspect, weight: Weight, mask: Beyond, where: str, cutting: str, count: int
) -> Proposal:
    """The repair that takes what was cut off.

    Args:
        suspect: the side.
        weight: its copy.
        mask: what was cut off.
        where: it was, in words.
        cutting: what does that, in words.
        count: how many values.
    """
    taken = of_weights(count, weight.count)
    return Proposal(
        kind="value.clipped",
        role=suspect.role,
        repair=taking(suspect, weight, mask.other, mask, (0, weight.dims[0])),
        tensor=weight.name,
        message=f"{where}: {taken} lie beyond it in the other file",
        recommendation=f"convert {weight.entry.name} without {cutting}, from a checkpoint that holds what was cut off",
        from_reference=taken,
        taken=count,
    )
