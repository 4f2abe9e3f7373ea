"""Rows exchanged between tensors of a layer: halves of gate and up joined rank after rank, heads of k among v, q, k and
v of each group side by side and cut as if each were whole (`layout.fused_order`).

What: some rows of a tensor are those of another of its layer, and the reverse. Why: parts
of several ranks were joined one after another and cut in the middle. Repair: join the parts tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta.diagnose.hypotheses.permuted import matched, sample_of_rows
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import edited
from rosetta.diagnose.permutations import permutation_in_words
from rosetta.diagnose.words import listed
from rosetta.model import Patch
from rosetta.names import LAYER
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
        partners = [*_partners(suspect, weight, found[1])]
        proposals = (_exchange(suspect, weight, partner) for partner in partners)
        proposal = next(filter(None, proposals), None) or _mixed(suspect, [weight, *partners])
        if proposal is not None:
            yield proposal


def _partners(suspect: Suspect, weight: Weight, layer: str) -> Iterator[Weight]:
    """Matrices of the same layer with as many columns."""
    for name, other in suspect.model.weights.items():
        if name != weight.name and name.startswith(f"blk.{layer}.") and len(other.dims) == 2:
            theirs = suspect.counterpart(other)
            if other.dims[1] == weight.dims[1] and theirs is not None and theirs.dims == other.dims:
                yield other


def _matched_rows(suspect: Suspect, weights: Sequence[Weight]) -> NDArray[np.int64] | None:
    """For each row of the other side's copies, one after another, where it lies among the rows of these."""
    others = [suspect.counterpart(weight) for weight in weights]
    if any(o is None or o.dims != w.dims for o, w in zip(others, weights, strict=True)):
        return None
    own = torch.cat([sample_of_rows(weight) for weight in weights])
    return matched(own, torch.cat([sample_of_rows(other) for other in others if other is not None]))


def _taken(weights: Sequence[Weight], order: NDArray[np.int64]) -> dict[str, Patch]:
    """The patches that take the rows of each weight from where they lie among the rows of all."""
    ends = np.cumsum([weight.dims[0] for weight in weights])
    starts = ends - [weight.dims[0] for weight in weights]
    patches: dict[str, Patch] = {}
    for weight, start, end in zip(weights, starts, ends, strict=True):
        rows = order[start:end]
        which = np.searchsorted(ends, rows, side="right").astype(np.int64)
        patches[weight.name] = edited(RowsOf(tuple(weights), which, rows - starts[which]))
    return patches


def _mixed(suspect: Suspect, weights: Sequence[Weight]) -> Proposal | None:
    """The tensors whose rows are mixed with the first one's, three or more: parts of one that was cut wrongly."""
    # Of what is fused in the file itself `fused_order` tells more, of matrices stacked in one tensor `permuted`.
    apart = weights[0].part is None and weights[0].slot is None
    order = _matched_rows(suspect, weights) if apart else None
    if order is None:
        return None
    owners = np.repeat(np.arange(len(weights)), [weight.dims[0] for weight in weights])
    links = {(int(a), int(b)) for a, b in zip(owners, owners[order], strict=True) if a != b}
    involved = {0}
    while grown := {b for a, b in links if a in involved} | {a for a, b in links if b in involved}:
        if grown <= involved:
            break
        involved |= grown
    if len(involved) < 3:
        return None
    mixed = [weights[number] for number in sorted(involved)]
    rows = order[np.isin(owners, sorted(involved))]
    places = np.cumsum(np.isin(owners, sorted(involved))) - 1  # of each row among those of the involved ones
    names = listed(weight.name for weight in mixed)
    own = ", ".join(weight.entry.name for weight in mixed)
    return Proposal(
        kind="layout.fused_order",
        role=suspect.role,
        repair=Repair(patches=_taken(mixed, places[rows])),
        tensor=mixed[0].name,
        partner=mixed[1].name,
        message=f"{names} hold rows of each other: a tensor that holds the parts of each group side by side was cut as "
        "if each part were whole, or the reverse",
        recommendation=f"cut the fused tensor of {own} group by group, as it was joined",
    )


def _exchange(suspect: Suspect, weight: Weight, partner: Weight) -> Proposal | None:
    order, count = _matched_rows(suspect, [weight, partner]), weight.dims[0]
    if order is None or bool((order[:count] < count).all()) or bool((order[:count] >= count).all()):
        return None  # none, or all of them: the tensors themselves are exchanged
    patches = _taken([weight, partner], order)
    strangers = np.flatnonzero(np.argsort(order)[:count] >= count)
    both = permutation_in_words(order, 0, "rows")
    return Proposal(
        kind="layout.fused_order",
        role=suspect.role,
        repair=Repair(patches=patches),
        tensor=weight.name,
        partner=partner.name,
        message=f"{weight.name} holds rows of {partner.name} in {_places(strangers, count)}, and the reverse: a fused "
        f"tensor was joined or cut in the wrong order (of both, one behind the other: {both})",
        recommendation=f"join the parts of {weight.entry.name} and of {partner.entry.name} tensor by tensor, not rank "
        "after rank or row by row",
    )


def _places(rows: NDArray[np.int64], count: int) -> str:
    """Which rows of so many these are, in words."""
    steps = set(np.diff(rows).tolist())
    if steps <= {1}:
        said = f"rows {rows[0]} to {rows[-1]}"
    elif len(steps) == 1:
        said = f"one row of {steps.pop()} from row {rows[0]} on"
    else:
        said = f"{len(rows)} rows from {rows[0]} on"
    return said + (" (a half)" if 2 * len(rows) == count else "")
