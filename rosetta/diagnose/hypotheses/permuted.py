"""Rows or columns of a matrix, or a vector's values, in another order, found by matching them and put into words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta.diagnose.hypotheses.rope_order import in_other_order
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, resembles
from rosetta.diagnose.patches import changed
from rosetta.diagnose.permutations import is_rolled, permutation_in_words, rotary_order_in_words
from rosetta.finding_kind import FindingKind
from rosetta.names import LAYER
from rosetta.row_order import Order, RowOrder
from rosetta.setting_values import PerLayer
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "layout.permuted",
        means="The rows or the columns of a matrix, or a vector's values, are the right ones in another order.",
        why="Heads were reordered for other groups, halves of two ranks were joined the other way round, channels were "
        "sorted.",
        repair="The rows or columns are put back. Write them in the model's own order.",
        whole=True,
    ),
)

LOOKED_AT = 256  # rows and columns by which columns and rows are told from each other
LEAST_LIKENESS = 0.5  # correlation of a row with its counterpart
NEARER = 0.1  # by what another row is liker before one is in its place
NOISE = 0.05  # of the squares of rows that lie elsewhere, those of rows too small to be told
LARGEST = 20_000  # rows that are matched with each other
ALL = 8192  # rows of a matrix whose rows are all matched, those too that are like their counterpart
ROUNDS = 16  # of taking one's place: rows that are still left are equal to others
AS_ROUNDED = 2**-8  # relative: a copy in BF16 is off by half of it
LEAST_NUMBER = 1e-4  # of a vector's rms: what F16 makes of a smaller one is off by more than its share
ROTARY = ("attn_q", "attn_k")
CONVOLUTION = re.compile(r"blk\.\d+\.(ssm_conv1d(_[qkv])?|shortconv\.conv)\.weight$")


@dataclass(frozen=True)
class Rearranged(RowOrder):
    """Canonical rows taken from other canonical rows, above the order that the file itself has.

    Args:
        rows: for each row the one to take.
        before: the file's own order.
    """

    rows: tuple[int, ...] = ()
    before: Order | None = None

    def index(self, rows: int) -> NDArray[np.int64]:
        own = np.arange(rows) if self.before is None else self.before.index(rows)
        taken = np.array(self.rows, dtype=np.int64)
        return own[taken] if len(taken) == rows else own


@dataclass(frozen=True, eq=False)
class ColumnsTaken:
    """Values with their columns taken from other columns; the noise goes with them."""

    columns: Tensor = field(hash=False)

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        return values[:, self.columns.to(values.device)]

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return sigma[:, self.columns.to(sigma.device)]


def propose(fault: Fault) -> Iterator[Proposal]:
    """The rows or columns of each accused matrix, or a vector's values, in the order of their counterparts."""
    if fault.recorded:
        return
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is None or other.dims != weight.dims:
            continue
        if len(weight.dims) == 1:
            yield from _of_rows(suspect, weight, other, matched_numbers(weight.values(), other.values()))
        elif len(weight.dims) == 2:
            for order in orders(sample_of_rows(weight), sample_of_rows(other), _head(suspect, weight)):
                yield from _of_rows(suspect, weight, other, order)
            yield from _of_columns(suspect, weight, other)


def _of_rows(
    suspect: Suspect, weight: Weight, other: Weight, order: NDArray[np.int64] | None
) -> Iterator[Proposal]:
    if order is None:
        return
    head = _head(suspect, weight)
    found = LAYER.match(weight.name)
    rotary = found is not None and found[2].rpartition(".")[0] in ROTARY and head > 0
    rotary = rotary and suspect.model.architecture.rope is not None
    if rotary and resembles(in_other_order(suspect.model, weight), other):
        return  # which `rope_order` proposes
    things = "rows" if len(weight.dims) > 1 else "values"
    as_rotary = rotary_order_in_words(order, head) if rotary else None
    said = as_rotary or permutation_in_words(order, head, things)
    taken = Rearranged(0, 0, 0, tuple(order.tolist()), weight.order)
    yield Proposal(
        kind="layout.permuted" if as_rotary is None else "layout.rope_order",
        role=suspect.role,
        repair=Repair(patches={weight.name: lambda w: None if w is None else replace(w, order=taken)}),
        tensor=weight.name,
        message=f"{weight.name} has its {things} in another order: {said}",
        recommendation=f"put the {things} of {weight.entry.name} back on export: {said}",
    )


def _of_columns(suspect: Suspect, weight: Weight, other: Weight) -> Iterator[Proposal]:
    own, theirs = (sample_of_columns(w) for w in (weight, other))
    for order in orders(own, theirs, _head(suspect, weight)):
        if CONVOLUTION.match(weight.name) and is_rolled(order):
            continue  # which `shifted_taps` proposes
        said = permutation_in_words(order, _head(suspect, weight), "columns")
        yield Proposal(
            kind="layout.permuted",
            role=suspect.role,
            repair=changed(suspect.model, weight, ColumnsTaken(torch.from_numpy(order))),
            tensor=weight.name,
            message=f"{weight.name} has its columns in another order: {said}",
            recommendation=f"put the columns of {weight.entry.name} back on export: {said}",
        )


def _head(suspect: Suspect, weight: Weight) -> int:
    """Rows, or columns, of a head in a matrix of an attention; 0 elsewhere."""
    found, stated = LAYER.match(weight.name), suspect.model.config.get("attention.key_length")
    if found is None or not found[2].startswith("attn_") or stated is None:
        return 0
    return int(stated.value.of(int(found[1])) if isinstance(stated.value, PerLayer) else stated.value)


def sample_of_rows(weight: Weight) -> Tensor:
    """Each row by some of its columns from all over it, float32 [R, n]."""
    step = max(1, weight.dims[1] // LOOKED_AT)
    parts = [weight.values(start, start + 4096)[:, ::step] for start in range(0, weight.dims[0], 4096)]
    return torch.cat(parts)


def sample_of_columns(weight: Weight) -> Tensor:
    """Each column by some of its rows, float32 [C, n]."""
    first = (weight.dims[0] - min(weight.dims[0], LOOKED_AT)) // 2
    return weight.values(first, first + LOOKED_AT).T.contiguous()


def orders(own: Tensor, other: Tensor, unit: int) -> Iterator[NDArray[np.int64]]:
    """For each of the other side's rows where it lies on this side, where whole heads lie elsewhere, and where rows do.

    A head is told by all of its rows, some of which may be hardly more than noise, or like each other.

    Args:
        own, other: samples, [R, n].
        unit: rows of a head; 0 where there are none.
    """
    by_heads = None
    if unit > 1 and own.shape == other.shape and len(own) % unit == 0:
        heads = matched(*(x.reshape(len(own) // unit, -1) for x in (own, other)))
        if heads is not None:
            by_heads = (heads[:, None] * unit + np.arange(unit)).reshape(-1)
            yield by_heads
    by_rows = matched(own, other)
    if by_rows is not None and (by_heads is None or not bool((by_rows == by_heads).all())):
        yield by_rows


def matched(own: Tensor, other: Tensor) -> NDArray[np.int64] | None:
    """For each of the other side's rows where it lies on this side; None where all are in place, or those that are
    not have no counterpart each.

    Args:
        own, other: samples, [R, n].
    """
    if own.shape != other.shape or not bool(own.isfinite().all() and other.isfinite().all()):
        return None
    size = torch.linalg.vector_norm(other, dim=1)
    a, b = (x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp(min=1e-30) for x in (own, other))
    here = torch.linalg.vecdot(a, b)
    unlike = here < LEAST_LIKENESS
    if not 1 < int(unlike.sum()) <= LARGEST:
        return None
    # Some rows are like others, and in no other one's place for that. Of very many only unlike ones are looked at.
    seen = torch.arange(len(a)) if len(a) <= ALL else unlike.nonzero().flatten()
    best = torch.cat([(some @ a[seen].T).amax(1) for some in torch.split(b[seen], 1024)])
    wrong = seen[unlike[seen] | (here[seen] < best - NEARER)]
    energy = size.square()
    lost = seen[best < LEAST_LIKENESS]  # nothing is like them
    if float(energy[lost].sum()) > NOISE * float(energy[wrong].sum()):
        return None
    taken, likeness = _each_its_own(a[wrong], b[wrong])
    if float(energy[wrong][likeness < LEAST_LIKENESS].sum()) > NOISE * float(energy[wrong].sum()):
        return None
    rows = np.arange(len(own))
    rows[wrong.numpy()] = wrong[taken].numpy()
    return rows if bool((rows != np.arange(len(own))).any()) else None


def _each_its_own(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of b a row of a that no other row of b has, the likest first, and how like it is: [M], [M].

    Args:
        a, b: rows of unit length, [M, n].
    """
    taken, likeness = torch.full((len(b),), -1), torch.zeros(len(b))
    left, free = torch.arange(len(b)), torch.arange(len(a))
    for _ in range(ROUNDS):
        found = [(some @ a[free].T).max(1) for some in torch.split(b[left], 1024)]
        values, places = torch.cat([x.values for x in found]), torch.cat([x.indices for x in found])
        by_likeness = values.argsort(descending=True)
        wanted = places[by_likeness].numpy()
        # The first of those that want one row.
        first = torch.from_numpy(np.sort(np.unique(wanted, return_index=True)[1]))
        winners = by_likeness[first]
        taken[left[winners]], likeness[left[winners]] = free[places[winners]], values[winners]
        kept = torch.ones(len(free), dtype=torch.bool)
        kept[places[winners]] = False
        free = free[kept]
        left = left[taken[left] < 0]
        if not len(left):
            break
    taken[left] = free
    return taken, likeness


def matched_numbers(own: Tensor, other: Tensor) -> NDArray[np.int64] | None:
    """For each of the other side's numbers where it lies on this side; None where the two have other numbers.

    Args:
        own, other: values of a bias or a norm, [N].
    """
    if own.shape != other.shape or not bool(own.isfinite().all() and other.isfinite().all()):
        return None
    least = LEAST_NUMBER * float(other.square().mean().sqrt())
    wrong = (~torch.isclose(own, other, rtol=AS_ROUNDED, atol=least)).nonzero().flatten()
    a, b = own[wrong].sort(), other[wrong].sort()
    # Numbers that are like each other by chance are missing on both sides: the others may be off by as much again.
    if len(wrong) < 2 or not torch.allclose(a.values, b.values, rtol=4 * AS_ROUNDED, atol=4 * least):
        return None
    rows = np.arange(len(own))
    rows[wrong[b.indices].numpy()] = wrong[a.indices].numpy()
    return rows
