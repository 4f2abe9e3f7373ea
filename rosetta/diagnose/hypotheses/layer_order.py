"""Whole layers in another order: sorted by their numbers as text, from the last to the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta.compare.weights import readable
from rosetta.diagnose.hypotheses.swapped import read_from
from rosetta.diagnose.hypothesis import SAMPLED_COLUMNS, SAMPLED_ROWS, Fault, Proposal, Repair, Suspect
from rosetta.diagnose.permutations import first_of
from rosetta.finding_kind import FindingKind
from rosetta.model import Patch
from rosetta.names import LAYER

KINDS = (
    FindingKind(
        "layout.layer_order",
        means="The layers stand in another order: each holds all tensors of another one.",
        why="An exporter sorts names as text, in which 10 comes before 2, or numbers the parts of a pipeline anew.",
        repair="Each layer is read from where it is stored. Number the layers as the model does.",
        whole=True,
    ),
)

EXCHANGED = 2  # layers that took each other's place are told so, tensor by tensor
LEAST_LIKENESS = 0.8  # correlation of some values of a matrix of two copies of one layer


def propose(fault: Fault) -> Iterator[Proposal]:
    """The order in which each layer of the subject is one of the reference."""
    if fault.recorded or fault.layer is None or not fault.outcome.differing:
        return
    suspect = fault.subject
    order = _order(suspect)
    if order is None:
        return
    weights = suspect.model.weights
    patches: dict[str, Patch] = {}
    for name in weights:
        found = LAYER.match(name)
        if found is not None and order[int(found[1])] != int(found[1]):
            source = weights.get(f"blk.{order[int(found[1])]}.{found[2]}")
            if source is None:
                return  # layers of several kinds do not stand in for each other
            patches[name] = read_from(source)
    said, first = _in_words(order), fault.outcome.differing[0]
    yield Proposal(
        kind="layout.layer_order",
        role=suspect.role,
        repair=Repair(patches=patches),
        tensor=first,
        message=f"{first} and all of its layer are another layer's: the layers stand in the order {said}",
        recommendation=f"number the layers of {suspect.model.container.path} as the model does: they stand in the "
        f"order {said}",
    )


def _order(suspect: Suspect) -> NDArray[np.int64] | None:
    """For each layer of the other side which of this side's it is; None where no more than two are out of place, or any
    has none."""
    count = suspect.model.block_count
    if count < 2 or count != suspect.other.block_count:
        return None
    for stem in _stems(suspect, count):
        both = [
            [m.weights[f"blk.{n}.{stem}"].corner(SAMPLED_ROWS, SAMPLED_COLUMNS) for n in range(count)]
            for m in (suspect.model, suspect.other)
        ]
        # A matrix that is stored turned, or in parts, gives another corner.
        rows, columns = (min(x.shape[axis] for one in both for x in one) for axis in (0, 1))
        own, other = (_corners([x[:rows, :columns] for x in one]) for one in both)
        if own is None or other is None:
            continue
        best = (other @ own.T).max(1)
        order = best.indices.numpy()
        alike = float(best.values.min()) >= LEAST_LIKENESS and len({*order.tolist()}) == count
        moved = int((order != np.arange(count)).sum())
        return order if alike and moved > EXCHANGED else None
    return None


def _stems(suspect: Suspect, count: int) -> Iterator[str]:
    """The matrices that every layer of both sides has, of the same dims."""
    for name, weight in suspect.model.weights.items():
        found = LAYER.match(name)
        if found is None or found[1] != "0" or len(weight.dims) != 2:
            continue
        held = [
            m.weights.get(f"blk.{n}.{found[2]}") for m in (suspect.model, suspect.other) for n in range(count)
        ]
        if all(w is not None and w.dims == weight.dims and readable(w) for w in held):
            yield found[2]


def _corners(corners: Sequence[Tensor]) -> Tensor | None:
    """Some values of each layer's matrix, of unit length, [layers, n]; None where any is not finite."""
    flat = torch.stack([corner.flatten().float() for corner in corners])
    if not bool(flat.isfinite().all()):
        return None
    lengths: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return flat / lengths.clamp(min=1e-30)


def _in_words(order: NDArray[np.int64]) -> str:
    numbers = range(len(order))
    stored = np.argsort(order)  # of each stored layer which one it is
    if stored.tolist() == sorted(numbers, key=str):
        return f"of their numbers as text: {first_of(stored)}"
    return "from the last to the first" if stored.tolist() == [*reversed(numbers)] else first_of(stored)
