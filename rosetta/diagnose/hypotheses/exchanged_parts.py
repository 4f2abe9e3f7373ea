"""Rows exchanged between two tensors of a layer: halves of gate and up joined rank after rank, heads of k among v
(`layout.fused_order`).

What: some rows of a tensor are those of another of its layer, and the reverse. Why: parts
of several ranks were joined one after another and cut in the middle. Repair: join the parts tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta.diagnose.hypotheses.permuted import matched, sample_of_rows
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import edited
from rosetta.model import LAYER, Patch
from rosetta.weight import Weight


@dataclass(frozen=True, eq=False)
class RowsOf:
    """Values taken row by row from several weights, and the noise with them.

    Args:
        sources: the weights.
        which, row: for each row the source and its row, int64 [R].
    """

    sources: tuple[Weight, ...] = field(hash=False)
    which: NDArray[np.int64] = field(hash=False)
    row: NDArray[np.int64] = field(hash=False)

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        return self._taken(values, start, "values")

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return self._taken(sigma, start, "sigma")

    def _taken(self, like: Tensor, start: int, what: str) -> Tensor:
        out = torch.empty_like(like)
        for number, source in enumerate(self.sources):
            places = np.flatnonzero(self.which[start : start + len(like)] == number)
            if len(places):
                rows = self.row[start + places]
                first, stop = int(rows.min()), int(rows.max()) + 1
                held = getattr(source, what)(first, stop, like.device)
                out[torch.from_numpy(places)] = held[torch.from_numpy(rows - first)]
        return out


def propose(fault: Fault) -> Iterator[Proposal]:
    """The partner with which each accused matrix has exchanged rows."""
    if fault.recorded:
        return
    for suspect, weight in fault.accused_weights():
        found = LAYER.match(weight.name)
        if found is None or len(weight.dims) != 2 or suspect.counterpart(weight) is None:
            continue
        for partner in _partners(suspect, weight, found[1]):
            proposal = _exchange(suspect, weight, partner)
            if proposal is not None:
                yield proposal
                break


def _partners(suspect: Suspect, weight: Weight, layer: str) -> Iterator[Weight]:
    """Matrices of the same layer with as many columns."""
    for name, other in suspect.model.weights.items():
        if name != weight.name and name.startswith(f"blk.{layer}.") and len(other.dims) == 2:
            theirs = suspect.counterpart(other)
            if other.dims[1] == weight.dims[1] and theirs is not None and theirs.dims == other.dims:
                yield other


def _exchange(suspect: Suspect, weight: Weight, partner: Weight) -> Proposal | None:
    ours, theirs = suspect.counterpart(weight), suspect.counterpart(partner)
    if ours is None or theirs is None or ours.dims != weight.dims:
        return None
    own = torch.cat([sample_of_rows(weight), sample_of_rows(partner)])
    order = matched(own, torch.cat([sample_of_rows(ours), sample_of_rows(theirs)]))
    count = weight.dims[0]
    if order is None or bool((order[:count] < count).all()) or bool((order[:count] >= count).all()):
        return None  # none, or all of them: the tensors themselves are exchanged
    sources = (weight, partner)
    patches: dict[str, Patch] = {}
    for target, rows in ((weight, order[:count]), (partner, order[count:])):
        which = (rows >= count).astype(np.int64)
        patches[target.name] = edited(RowsOf(sources, which, rows - count * which))
    moved = np.flatnonzero(order[:count] >= count)
    place = (
        f"rows {moved[0]} to {moved[-1]}" if len(moved) == moved[-1] - moved[0] + 1 else f"{len(moved)} rows"
    )
    half = " (a half)" if 2 * len(moved) == count else ""
    return Proposal(
        kind="layout.fused_order",
        role=suspect.role,
        repair=Repair(patches=patches),
        tensor=weight.name,
        partner=partner.name,
        message=f"{weight.name} holds rows of {partner.name} in {place}{half}, and the reverse: parts of a fused "
        "tensor were joined in the wrong order",
        recommendation=f"join the parts of {weight.entry.name} and of {partner.entry.name} tensor by tensor, not rank "
        "after rank",
    )
