"""A matrix of low rank between two copies: an adapter that is merged in one of them only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from rosetta.adapted import Merged, merge_of, without_merge
from rosetta.compare.pairing import other_role
from rosetta.compare.spectrum import edge_of, largest_singular_value
from rosetta.diagnose.edits import HALF_ULP
from rosetta.diagnose.hypothesis import Fault, Proposal, Suspect
from rosetta.diagnose.patches import changed
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight, row_ranges
from rosetta.workers import spread

KINDS = (
    FindingKind(
        "value.low_rank",
        means="A weight differs by a matrix of low rank and by nothing else.",
        why="A LoRA adapter was not merged before the file was written, or twice, or with another scale, or with its "
        "factors turned.",
        repair="The matrix of low rank is taken off, and the proof says its rank. Merge the adapter once and export "
        "again.",
        order=80,
    ),
)

TAKES_FROM_REFERENCE = True
LARGEST_RANK = 160  # adapters have 4 to 128
OVER = 1.02  # times the largest singular value of noise: what counts as rank
DROP = 1.1  # times the next one: neighbours among a hundred of noise are a few percent apart
LEAST = 1.03  # of the whole, before anything is decomposed
SPREAD = (
    0.1  # of the mean energy of rows and columns, what half of them have at least: an adapter concerns all
)
CERTAIN = 6  # standard errors
CLOSE = 0.01  # of being merged once, or twice, or by another rule
EXACT = 2.0**-40  # of the energy: what is left of copies that float32 rounds, and no noise
PLACES, ROWS_AT_A_PLACE = 8, 64  # of a large matrix, before all of it is decomposed
UNRELATED = 0.2  # correlation of these rows
NEARLY_ALL = 0.8  # of the energy of their difference
FEW = 0.5  # of the numbers that the weight has, those of the matrix of low rank: more would explain anything


@dataclass(frozen=True, eq=False)
class Added:
    """Values less a matrix of low rank that was added to them.

    Args:
        left, right: its factors, float32 [R, r] and [r, C].
    """

    fitted: ClassVar[bool] = True  # to the other side's copy

    left: Tensor = field(hash=False)
    right: Tensor = field(hash=False)

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        part = self.left[start : start + len(values)].to(values.device) @ self.right.to(values.device)
        return values - part

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """What float32 rounds in the sum that was stored and in what is taken off, beside the weight's own noise."""
        rows = slice(start, start + len(values))
        sizes = self.left[rows].abs().to(values.device) @ self.right.abs().to(values.device)
        return torch.hypot(sigma, (values.abs() + sizes) * (2 * HALF_ULP))


@dataclass(frozen=True)
class Times:
    """Values and some times more of what an adapter makes of its base.

    Args:
        merged, base: the same weight with the adapter and without.
        amount: how many times more; below 0 less.
    """

    fitted: ClassVar[bool] = True  # to the other side's copy

    merged: Weight
    base: Weight
    amount: float

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        rows = start, start + len(values), values.device
        return values + self.amount * (self.merged.values(*rows) - self.base.values(*rows))

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return sigma


@dataclass(frozen=True)
class Exchanged:
    """Values with what one merge makes of the base taken off, and what another makes of it put there.

    Args:
        held, wanted: the same weight, merged in one way and in the other.
    """

    fitted: ClassVar[bool] = True  # to the other side's copy

    held: Weight
    wanted: Weight

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        rows = start, start + len(values), values.device
        return values + (self.wanted.values(*rows) - self.held.values(*rows))

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return sigma


def propose(fault: Fault) -> Iterator[Proposal]:
    """The known adapter, merged not once; else the matrix of low rank that is left when the noise is taken off the
    difference."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims or len(weight.dims) != 2:
            continue
        merge = merge_of(weight) or merge_of(other)
        if merge is not None:
            yield from _of_adapter(fault, suspect, (weight, other), merge)
            continue
        found = difference_of_low_rank(weight, other)
        if found is None:
            continue
        left, right, size = found
        rank, numbers = right.shape[0], left.numel() + right.numel()
        side = fault.side(suspect.role)
        yield Proposal(
            kind="value.low_rank",
            role=suspect.role,
            repair=changed(suspect.model, weight, Added(left, right)),
            tensor=weight.name,
            actual=rank,
            message=f"{weight.name} differs by a matrix of rank {rank} of {size:.2g} of its size: an adapter (LoRA) "
            f"that is not merged in the {side} file, or in it alone",
            recommendation=f"merge the adapter into {weight.entry.name} once, before it is quantised, and export again",
            from_reference=f"{numbers} numbers for {weight.count} weights: a matrix of rank {rank}",
        )


def _of_adapter(
    fault: Fault, suspect: Suspect, sides: tuple[Weight, Weight], merge: Merged
) -> Iterator[Proposal]:
    """How often the side without the adapter at hand holds it, where that is not once."""
    weight, other = sides
    merged, plain = (weight, other) if merge_of(weight) is not None else (other, weight)
    if (
        merge_of(plain) is not None
    ):  # adapters on both sides: neither tells how often the other should be merged
        return
    base = without_merge(merged)
    yield from _misread(fault, suspect, sides, merge)
    times, error = times_merged(plain, merged, base)
    if abs(times - 1) <= max(CERTAIN * error, CLOSE):
        return
    amount = 1 - times if plain is weight else times - 1
    where = fault.side(suspect.role if plain is weight else other_role(suspect.role))
    yield Proposal(
        kind="value.low_rank",
        role=suspect.role,
        repair=changed(suspect.model, weight, Times(merged, base, amount)),
        tensor=weight.name,
        declared=1,
        actual=round(times, 3),
        message=f"{weight.name}: the adapter is {_how_often(times, max(CERTAIN * error, CLOSE), merge)} in the {where} "
        "file",
        recommendation=f"merge the adapter into {weight.entry.name} once, with the scale "
        f"{merge.module.scale:.6g}, before it is quantised, and export again",
        from_reference="1 number: how many times the adapter is merged",
    )


def _misread(
    fault: Fault, suspect: Suspect, sides: tuple[Weight, Weight], merge: Merged
) -> Iterator[Proposal]:
    """The ways in which the side without the adapter may have read its factors, where what it holds is that."""
    weight, other = sides
    merged, plain = (weight, other) if merge_of(weight) is not None else (other, weight)
    base = without_merge(merged)
    where = fault.side(suspect.role if plain is weight else other_role(suspect.role))
    for words, way in merge.misread():
        edits = (way if edit is merge else edit for edit in merged.values_edits)
        wrong = replace(merged, values_edits=tuple(edits))
        times, error = times_merged(plain, wrong, base)
        if CERTAIN * error > FEW or abs(times - 1) > max(CERTAIN * error, CLOSE):
            continue
        change = Exchanged(wrong, merged) if plain is weight else Exchanged(merged, wrong)
        yield Proposal(
            kind="value.low_rank",
            role=suspect.role,
            repair=changed(suspect.model, weight, change),
            tensor=weight.name,
            message=f"{weight.name}: the adapter is merged {words} in the {where} file",
            recommendation=f"merge B·A, [out, r] times [r, in], into {weight.entry.name}, and export again",
            from_reference="no number: what the adapter's own factors make when they are read so",
        )


def times_merged(plain: Weight, merged: Weight, base: Weight) -> tuple[float, float]:
    """How many times a weight holds what the adapter makes of its base, and the standard error of that."""

    def sums(rows: tuple[int, int]) -> tuple[float, float, float]:
        start = base.values(*rows).double()
        added, held = merged.values(*rows).double() - start, plain.values(*rows).double() - start
        return float((held * added).sum()), float(added.square().sum()), float(held.square().sum())

    along, size, whole = map(sum, zip(*spread(sums, row_ranges(plain)), strict=True))
    if not (size > 0 and math.isfinite(along) and math.isfinite(whole)):
        return 1.0, 0.0
    left = max(whole - along * along / size, 0.0)
    return along / size, math.sqrt(left / plain.count / size)


def _how_often(times: float, close: float, merge: Merged) -> str:
    """`not merged`, `merged twice`, `merged with the scale 4 (alpha/√r) in place of 2`."""
    if abs(times) <= close:
        return "not merged"
    module = merge.module
    if abs(times - 2) <= close:
        is_root = (
            merge.lengths is None
            and abs(module.alpha / math.sqrt(module.rank) / module.scale / 2 - 1) <= close
        )
        return "merged twice" + (f", or with the scale {2 * module.scale:.4g} (alpha/√r)" if is_root else "")
    if merge.lengths is not None:
        return f"merged {times:.3g} times"
    rules = {
        "alpha/r": module.alpha / module.rank,
        "alpha/√r": module.alpha / math.sqrt(module.rank),
        "alpha": module.alpha,
        "1, without alpha/r": 1.0,
        "1/r": 1 / module.rank,
    }
    scale = times * module.scale
    named = [f" ({words})" for words, value in rules.items() if abs(scale / value - 1) <= close]
    return f"merged with the scale {scale:.4g}{named[0] if named else ''} in place of {module.scale:.6g}"


def difference_of_low_rank(a: Weight, b: Weight) -> tuple[Tensor, Tensor, float] | None:
    """The factors [R, r], [r, C] of what a − b is beyond noise, and its size relative to a; None where that is no
    low rank."""
    if _shares_nothing(a, b):
        return None
    ranges = row_ranges(a)
    gap = torch.cat(spread(lambda rows: a.values(*rows) - b.values(*rows), ranges))
    if not bool(gap.isfinite().all()) or min(gap.shape) < 8:
        return None
    columns = gap.square().mean(0).sqrt().clamp(min=1e-20)
    z = gap / columns
    rows = z.square().mean(1, keepdim=True).sqrt().clamp(min=1e-20)
    z = z / rows
    if largest_singular_value(z) < LEAST:
        return None
    count = min(LARGEST_RANK, min(gap.shape) // 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(z, q=count, niter=3)
    rank = _rank(z, s)
    if not rank or rank * sum(gap.shape) > FEW * gap.numel():
        return None
    left = rows * u[:, :rank] * s[:rank]
    right = v[:, :rank].T * columns
    part = (left @ right).square()
    if not all(float(x.median()) > SPREAD * float(x.mean()) for x in (part.sum(0), part.sum(1))):
        return None  # a few wrong rows are of low rank, too
    size = torch.cat(spread(lambda rows: torch.linalg.vecdot(v := a.values(*rows), v), ranges))
    return left, right.contiguous(), float((left @ right).norm() / size.sum().sqrt())


def _shares_nothing(a: Weight, b: Weight) -> bool:
    """Whether some rows of a large matrix say that no matrix of low rank lies between two copies.

    Where they do not correlate, what was added must outweigh what it was added to (‖L‖² > 24 ‖a‖² at a correlation of
    0.2), which the difference does not hold: nearly all of it is of low rank then.
    """
    if a.dims[0] < 4 * PLACES * ROWS_AT_A_PLACE:
        return False
    starts = [place * (a.dims[0] - ROWS_AT_A_PLACE) // (PLACES - 1) for place in range(PLACES)]
    x, y = (torch.cat([w.values(start, start + ROWS_AT_A_PLACE) for start in starts]) for w in (a, b))
    size, gap = float(x.norm() * y.norm()), x - y
    if not math.isfinite(size) or not abs(float((x * y).sum())) < UNRELATED * size:
        return False
    energies = torch.linalg.eigvalsh((gap @ gap.T).double())
    return bool(energies[-LARGEST_RANK:].sum() < NEARLY_ALL * energies.sum())


def _rank(z: Tensor, singular: Tensor) -> int:
    """How many singular values lie above what the rest has as noise; 0 where all that are known do, and none stands
    out."""
    whole = left = float(z.double().square().sum())
    for rank, value in enumerate(singular.tolist()):
        if value <= OVER * edge_of(len(z), z.shape[1], left / z.numel()):
            return _last_drop(singular[: rank + 1]) or rank
        left = max(left - value * value, EXACT * whole)
    return _last_drop(singular[: 3 * len(singular) // 4])  # the last ones are known badly


def _last_drop(singular: Tensor) -> int:
    """How many singular values stand above the last drop among them; 0 where there is none. Rounding errors that are
    not alike all over a matrix have more large ones than alike ones, and hardly a gap between any two."""
    drops = (singular[:-1] >= DROP * singular[1:]).nonzero()
    return int(drops[-1]) + 1 if len(drops) else 0
