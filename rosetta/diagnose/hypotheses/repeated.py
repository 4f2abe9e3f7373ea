"""Rows or columns of a matrix that are there twice, in others' places: one rank's part was joined more than once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta.diagnose.hypotheses.permuted import LARGEST, LEAST_LIKENESS, sample_of_columns, sample_of_rows
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import of_weights, taking
from rosetta.finding_kind import FindingKind

KINDS = (
    FindingKind(
        "value.repeated",
        means="Rows or columns of a matrix are there twice, and others are lost.",
        why="The parts of several ranks were joined, and one of them was taken more than once: a loop that reads the "
        "same shard, a part that was held to be a copy.",
        repair="The lost ones are taken from the reference, and the proof says how many. Join each rank's own part.",
        order=88,
        title="repeated",
    ),
)

TAKES_FROM_REFERENCE = True
ALIKE = 1 - 1e-6  # cosine of two copies in one tensor, whose values are the same
FEWEST = 2


def propose(fault: Fault) -> Iterator[Proposal]:
    """The rows or columns of each accused matrix that repeat others, where those stand right."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if fault.recorded or other is None or other.dims != weight.dims or len(weight.dims) != 2:
            continue
        for things, sample in (("rows", sample_of_rows), ("columns", sample_of_columns)):
            found = _repeated(sample(weight), sample(other))
            if found is None:
                continue
            lost, copied = found
            count = len(lost) * weight.dims[things == "rows"]
            rows = (int(lost.min()), int(lost.max()) + 1) if things == "rows" else (0, weight.dims[0])
            said, where = of_weights(count, weight.count), f"{things} {_span(lost)}"
            yield Proposal(
                kind="value.repeated",
                role=suspect.role,
                repair=taking(suspect, weight, other, partial(_mask, things == "rows", lost), rows),
                tensor=weight.name,
                message=f"{weight.name}: {where} hold {things} {_span(copied)} once more, and their own are not in "
                "the file",
                recommendation=f"join each rank's own part of {weight.entry.name}: one was taken twice",
                from_reference=said,
                taken=count,
            )
            break


def _mask(by_rows: bool, lost: NDArray[np.int64], start: int, values: Tensor) -> Tensor:
    """Which values of the rows from `start` on lie in lost rows or columns; see `edits.Mask`."""
    hit = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    inside = torch.from_numpy(lost).to(values.device)
    if by_rows:
        hit[inside[(inside >= start) & (inside < start + len(values))] - start] = True
    else:
        hit[:, inside] = True
    return hit


def _repeated(own: Tensor, other: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Which rows hold others' values, and whose; None where any wrong row holds something else.

    Args:
        own, other: samples, [R, n].
    """
    if not bool(own.isfinite().all() and other.isfinite().all()):
        return None
    a, b = (x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp(min=1e-30) for x in (own, other))
    right = torch.linalg.vecdot(a, b) >= LEAST_LIKENESS
    lost, kept = (~right).nonzero().flatten(), right.nonzero().flatten()
    if not FEWEST <= len(lost) <= min(LARGEST, len(kept)):
        return None
    likeness, place = (a[lost] @ a[kept].T).max(1)
    copied = kept[place]
    if float(likeness.min()) < ALIKE or not torch.equal(own[lost], own[copied]):
        return None
    return lost.numpy(), copied.numpy()


def _span(places: NDArray[np.int64]) -> str:
    first, last = int(places.min()), int(places.max())
    return (
        f"{first} to {last}"
        if last - first + 1 == len(places)
        else f"{first} … {last} ({len(places)} of them)"
    )
