"""A matrix of low rank between two copies: an adapter that is merged in one of them only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from rosetta.compare.spectrum import edge_of, largest_singular_value
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import changed
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight, row_ranges
from rosetta.workers import spread

KINDS = (
    FindingKind(
        "value.low_rank",
        means="A weight differs by a matrix of low rank and by nothing else.",
        why="A LoRA adapter was not merged before the file was written, or twice, or with another scale.",
        repair="The matrix of low rank is taken off, and the proof says its rank. Merge the adapter once and export "
        "again.",
        order=80,
    ),
)

TAKES_FROM_REFERENCE = True
LARGEST_RANK = 160  # adapters have 4 to 128
OVER = 1.02  # times the largest singular value of noise: what counts as rank
LEAST = 1.03  # of the whole, before anything is decomposed
SPREAD = (
    0.1  # of the mean energy of rows and columns, what half of them have at least: an adapter concerns all
)
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
        return sigma


def propose(fault: Fault) -> Iterator[Proposal]:
    """The matrix of low rank that is left when the noise is taken off the difference."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims or len(weight.dims) != 2:
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


def difference_of_low_rank(a: Weight, b: Weight) -> tuple[Tensor, Tensor, float] | None:
    """The factors [R, r], [r, C] of what a − b is beyond noise, and its size relative to a; None where that is no
    low rank."""
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


def _rank(z: Tensor, singular: Tensor) -> int:
    """How many singular values lie above what the rest has as noise; 0 where all that are known do."""
    left = float(z.square().sum())
    for rank, value in enumerate(singular.tolist()):
        if value <= OVER * edge_of(len(z), z.shape[1], left / z.numel()):
            return rank
        left = max(left - value * value, 0.0)
    return 0
