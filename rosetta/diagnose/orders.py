"""The order in which rows of numbers lie, told by what each should be: rolled, woven, of whole matrices, or any.

Letters: n = rows, G = numbers of a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta.diagnose.permutations import permutation_in_words

# Of the distance of numbers from those that are asked for: what is left where they are in place.
NEARER = 0.35
LARGEST = 20_000  # rows that are matched with each other
ROUNDS, FARTHEST = 16, 32  # of taking one's place, and rows that are looked at in each for an exchange
WOVEN = (2, 4, 8, 16, 32, 64, 128)


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square of what numbers are apart, where both are numbers."""
    gap = (a - b)[(a - b).isfinite()]
    return float(gap.square().mean().sqrt()) if len(gap) else math.inf


def order_of(own: Tensor, wanted: Tensor, matrices: int = 1) -> NDArray[np.int64] | None:
    """For each row the one whose numbers it asks for; None where all are in place, or they are no rows of these.

    Args:
        own, wanted: [n, G], all of them numbers.
        matrices: how many lie one after another: rows may be rolled or woven within each.
    """
    count = len(own)
    if not 1 < count <= LARGEST:
        return None
    off = distance(wanted, own)
    orders = [*_simple_orders(own, wanted)]
    if matrices > 1 and count % matrices == 0:
        height = count // matrices
        starts = torch.arange(0, count, height)[:, None]
        orders += ((starts + order).flatten() for order in _simple_orders(own[:height], wanted[:height]))
        orders += _order_of_matrices(own, wanted, height)
    found = [order for order in orders if distance(wanted, own[order]) < NEARER * off]
    best = min(found, key=lambda order: distance(wanted, own[order]), default=None)
    if best is None:
        best = _exchanged(_one_to_one(own, wanted), own, wanted)
        if distance(wanted, own[best]) >= NEARER * off:
            return None
    order = best.numpy()
    return order if bool((order != np.arange(count)).any()) else None


def _order_of_matrices(own: Tensor, wanted: Tensor, height: int) -> Iterator[Tensor]:
    """The order of whole matrices of a stack, each where it is nearest, where that is one for each."""
    held = own.reshape(-1, height * own.shape[1])
    asked = torch.cdist(wanted.reshape(held.shape), held).argmin(1)
    if len(set(asked.tolist())) == len(asked):
        yield (asked[:, None] * height + torch.arange(height)).flatten()


def _simple_orders(own: Tensor, wanted: Tensor) -> Iterator[Tensor]:
    """Orders that have a name: rolled, backwards, woven."""
    here = torch.arange(len(own))
    nearest = torch.cat([torch.cdist(some, own).argmin(1) for some in torch.split(wanted, 1024)])
    shifts = (nearest - here) % len(own)
    yield (here + shifts.mode().values) % len(own)
    yield here.flip(0)
    for n in WOVEN:
        if len(own) % n == 0 and n < len(own):
            woven = here.view(n, -1).T.reshape(-1)
            yield from (woven, woven.argsort())


def _one_to_one(own: Tensor, wanted: Tensor) -> Tensor:
    """The nearest row for each, one for each; of rows of one number, those of the same place by size."""
    order = torch.full((len(own),), -1)
    if own.shape[1] == 1:
        order[wanted[:, 0].argsort()] = own[:, 0].argsort()
        return order
    # Scales that are powers of two are often equal.
    kinds, kind = torch.unique(own, dim=0, return_inverse=True)
    members, room = kind.argsort(stable=True), torch.bincount(kind)
    taken, first = torch.zeros_like(room), room.cumsum(0) - room
    left = torch.arange(len(own))
    for _ in range(ROUNDS):
        free = (taken < room).nonzero().flatten()
        found = [torch.cdist(some, kinds[free]).min(1) for some in torch.split(wanted[left], 1024)]
        asked = free[torch.cat([x.indices for x in found])]
        by_kind = torch.cat([x.values for x in found]).argsort()
        # The nearest of those that ask for one kind first.
        by_kind = by_kind[asked[by_kind].argsort(stable=True)]
        claims = torch.bincount(asked, minlength=len(kinds))
        place = torch.arange(len(left)) - (claims.cumsum(0) - claims)[asked[by_kind]] + taken[asked[by_kind]]
        has = place < room[asked[by_kind]]
        winners = by_kind[has]
        order[left[winners]] = members[first[asked[winners]] + place[has]]
        taken += torch.bincount(asked[winners], minlength=len(kinds))
        left = left[order[left] < 0]
        if not len(left):
            return order
    order[left] = torch.arange(len(own))[~torch.isin(torch.arange(len(own)), order)]
    return order


def _exchanged(order: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """The order with pairs of rows exchanged where both together are nearer so: who came last took what was left."""
    order = order.clone()
    for _ in range(ROUNDS):
        far = (wanted - own[order]).square().sum(1)
        exchanges = 0
        for i in far.topk(min(FARTHEST, len(far))).indices.tolist():
            held = own[order]
            far = (wanted - held).square().sum(1)
            with_theirs = (wanted[i] - held).square().sum(1) + (wanted - held[i]).square().sum(1)
            gain = far[i] + far - with_theirs
            j = int(gain.argmax())
            if gain[j] > 0:
                order[i], order[j] = int(order[j]), int(order[i])
                exchanges += 1
        if not exchanges:
            break
    return order


def order_in_words(order: NDArray[np.int64], matrices: int, height: int) -> tuple[str, str]:
    """What lies in an order of rows of scales, and what order it is: that of whole experts, or of rows.

    Args:
        order: for each right place where it lies.
        matrices: how many experts' rows lie one after another.
        height: rows of the weight that share a row of scales.
    """
    if matrices > 1 and len(order) % matrices == 0:
        each = order.reshape(matrices, -1)
        if bool(
            (each - each[:, :1] == np.arange(each.shape[1])).all() and (each[:, 0] % each.shape[1] == 0).all()
        ):
            return "experts", permutation_in_words(each[:, 0] // each.shape[1], 0, "experts")
    return "rows", permutation_in_words(order, 0, "rows" if height == 1 else f"blocks of {height} rows")


def in_order(by_row: Tensor, dim: int, index: Tensor) -> Tensor:
    """Rows or columns of a matrix, of any dtype: of floats of eight bits torch moves none."""
    if by_row.element_size() == 1:
        return by_row.view(torch.uint8).index_select(dim, index).view(by_row.dtype)
    return by_row.index_select(dim, index)
