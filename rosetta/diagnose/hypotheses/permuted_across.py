"""Rows of a fused tensor in an order that takes them from one of its parts into another (`layout.permuted`).

Letters: R = rows of the fused tensor, n = of its columns those that are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta.diagnose.hypotheses.fused_order import MOST_PARTS, arrangements, parts_of
from rosetta.diagnose.hypotheses.permuted import (
    matched,
    matched_numbers,
    sample_of_rows,
)
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import instead
from rosetta.diagnose.permutations import permutation_in_words
from rosetta.weight import Weight


def propose(fault: Fault) -> Iterator[Proposal]:
    """The rows of each fused tensor that an accused weight is a part of, in the order of their counterparts."""
    if fault.recorded:
        return
    seen: list[Weight] = []
    for suspect, weight in fault.accused_weights():
        if weight.part is None or any(weight.beside(other) for other in seen):
            continue
        seen.append(weight)
        yield from _of_fused(fault, suspect, weight)


def _of_fused(fault: Fault, suspect: Suspect, weight: Weight) -> Iterator[Proposal]:
    parts = parts_of(suspect, weight)
    others = [suspect.counterpart(part) for part in parts]
    right = [part.rows_of_whole for part in parts]
    total = sum(len(rows) for rows in right)
    if any(other is None or other.dims != part.dims for part, other in zip(parts, others, strict=True)):
        return
    if not _is_all(right, total) or len({part.dims[1:] for part in parts}) > 1:
        return
    own = _together(parts, right, total)
    theirs = _together([other for other in others if other is not None], right, total)
    order = matched(own, theirs) if own.dim() == 2 else matched_numbers(own, theirs)
    if order is None or not _crosses(right, order):
        return
    repaired = [part.with_rows(order[rows], total) for part, rows in zip(parts, right, strict=True)]
    if len(parts) > MOST_PARTS and _runs(order) <= sum(map(_runs, right)):
        return  # whole heads lie elsewhere, which `heads_of_latent` proposes
    if len(parts) <= MOST_PARTS and any(
        all(map(_same_rows, repaired, whole)) for _, _, whole in arrangements(fault, suspect, parts)
    ):
        return  # which `fused_order` proposes
    fused = weight.fused or weight.entry.name
    things = "rows" if own.dim() == 2 else "values"
    said = permutation_in_words(order, 0, things)
    yield Proposal(
        kind="layout.permuted",
        role=suspect.role,
        repair=Repair(patches={part.name: instead(part) for part in repaired}),
        tensor=fused,
        message=f"{fused} has its {things} in another order, across its parts: {said}",
        recommendation=f"put the {things} of {weight.entry.name} back on export: {said}",
    )


def _is_all(rows: list[NDArray[np.int64]], total: int) -> bool:
    """Whether the parts are all of the tensor, each row once."""
    return bool((np.sort(np.concatenate(rows)) == np.arange(total)).all())


def _together(parts: list[Weight], rows: list[NDArray[np.int64]], total: int) -> Tensor:
    """The parts' values at these rows of a fused tensor: samples of rows [R, n], or all numbers of a vector [R]."""
    samples = [sample_of_rows(part) if len(part.dims) == 2 else part.values() for part in parts]
    whole = torch.empty((total, *samples[0].shape[1:]))
    for sample, places in zip(samples, rows, strict=True):
        whole[torch.from_numpy(places)] = sample
    return whole


def _crosses(rows: list[NDArray[np.int64]], order: NDArray[np.int64]) -> bool:
    """Whether an order takes rows from one part into another."""
    part_of = np.empty(len(order), np.int64)
    for which, places in enumerate(rows):
        part_of[places] = which
    return bool((part_of[order] != part_of).any())


def _runs(rows: NDArray[np.int64]) -> int:
    """How many runs of rows that follow each other there are."""
    return 1 + int((np.diff(rows) != 1).sum())


def _same_rows(a: Weight, b: Weight) -> bool:
    return np.array_equal(a.rows_of_whole, b.rows_of_whole)
