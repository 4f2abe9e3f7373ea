"""Whether quantised values lie in the order of the weights that they were made from.

An encoder gives the weights of a block one scale, and rounds each by itself to the nearest level. Whatever the scale
was fitted to, and by whichever importance: of two weights of a block the larger one never gets the smaller value. Other
weights beneath the same noise (an adapter that was not merged, another revision, a factor) break that order, long
before they make errors larger or have a structure that shows.

Encoders that make good the errors of some weights by others break it as well, in all matrices alike. So nothing is
held against a matrix before another one of the same two files and dtypes is seen to keep it.

Letters: n = blocks, g = weights of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from rosetta import blocks
from rosetta.compare.trait import CODEBOOKS, LEAST, Trait
from rosetta.compare.weights import WeightPair, readable
from rosetta.dtypes import FLOATS, of_scheme
from rosetta.edits import Leveraged, Reversible
from rosetta.weight import Weight
from rosetta.workers import aside

SAMPLED, RUN = 1 << 18, 8  # weights of a matrix, and rows of it that lie together
# Of the largest weight near by: two weights that were rounded to eight bits on the way, by half a step each, while the
# other copy was rounded to BF16.
EIGHT_BITS, NEAR_BY = 1 / 127 + 2**-8, 32
FEWEST = 4  # levels out of order; clean copies have none
EASED = 0.5  # of these, what a repair may leave: the numbers that it is fitted by are known no better
FARTHEST = 5.0  # standard deviations: about the largest of so many normal errors
ENOUGH = 2_000  # levels that are in order, all of them, before an encoder is said to keep it
TRIED = 6  # matrices that may show it
# Matrices, in all of which so many levels are not those of their weights: no encoder that rounds leaves that.
FEW, EVERYWHERE = 3, 0.002
ONE_SCALE = "APR_Q8"  # whose levels are as far apart as the tensor's largest weight has them, not one near by
EIGHT = ("Q8_0", ONE_SCALE)  # as good as the source, to eight bits
Copies = tuple[Weight, Weight]
Look = Callable[[], tuple[int, int]]
"""Waits for what `out_of_order` says of two copies."""


class KeptOrder:
    """What is known of the encoders of two files: which pairs of dtypes have a matrix that keeps the order.

    Attributes:
        never_kept: those of which several matrices were looked at, and all are far out of order.
    """

    def __init__(self) -> None:
        self.never_kept: set[tuple[str, str]] = set()
        self._kept: dict[tuple[str, str], bool] = {}
        self._broken: dict[str, float] = {}  # of weights as they are stored, the share of levels out of order

    def begun(self, copies: Copies) -> Look | None:
        """Looks at the order of two copies beside their comparison; None where it says nothing."""
        alike = copies[0].dims == copies[1].dims and all(map(readable, copies))
        ordered = _coarse_and_fine(copies) if alike else None
        return None if ordered is None else aside(partial(out_of_order, *ordered))

    def heeded(
        self, found: WeightPair, copies: Copies, others: Iterable[Copies], look: Look | None = None
    ) -> WeightPair:
        """A comparison, with what the order of its values says where it found no more than noise.

        Args:
            found: of the two copies.
            copies: of one weight.
            others: the copies of all weights that both files have.
            look: what `begun` gave, where it was asked.
        """
        ordered = _coarse_and_fine(copies) if found.state == "within_noise" else None
        if ordered is None:
            return found
        broken, levels = out_of_order(*ordered) if look is None else look()
        if broken < FEWEST:
            return found
        name, share = ordered[0].name, broken / levels
        if any(weight.repaired for weight in copies):
            before = self._broken.get(name)
            if before is None or share <= EASED * before:
                return found
        elif self._is_kept(copies, others):
            self._broken[name] = share
        else:
            return found
        return replace(found, state="differing", traits=(*found.traits, Trait("order", share, 0.0)))

    def _is_kept(self, copies: Copies, others: Iterable[Copies]) -> bool:
        """Whether another matrix of these dtypes keeps the order."""
        dtypes = copies[0].dtype, copies[1].dtype
        if dtypes not in self._kept:
            ordered = [_coarse_and_fine(pair) for pair in _alike(copies, others)]
            tried = [out_of_order(*pair) for pair in ordered if pair is not None]
            self._kept[dtypes] = any(not broken and levels >= ENOUGH for broken, levels in tried)
            if len(tried) >= FEW and all(broken > EVERYWHERE * levels for broken, levels in tried):
                self.never_kept.add(dtypes)
        return self._kept[dtypes]


def _alike(copies: Copies, others: Iterable[Copies]) -> list[Copies]:
    """Some matrices of the same dtypes as these, from all over the model."""
    dtypes = [weight.dtype for weight in copies]
    found = [
        pair
        for pair in others
        if [weight.dtype for weight in pair] == dtypes
        and pair[0].dims == pair[1].dims
        and not pair[0].same_place(copies[0])
        and all(readable(weight) and not weight.repaired for weight in pair)
    ]
    return found[:: max(1, -(-len(found) // TRIED))]


def _coarse_and_fine(copies: Copies) -> Copies | None:
    """Which copy was rounded block by block, and which holds what that one was made from; None of any other two."""
    for coarse, fine in (copies, copies[::-1]):
        # Packers of folders make good the errors of some weights by others, or scale columns before they round.
        by_itself = coarse.dtype not in {*FLOATS, *EIGHT, *CODEBOOKS} and not of_scheme(coarse.dtype)
        plain = len(coarse.dims) == 2 and not coarse.transposed
        if by_itself and plain and fine.dtype in {*FLOATS, *EIGHT}:
            group = blocks.group_of(coarse.dtype)
            # The blocks of a row that is no whole number of them may begin in another one.
            if (
                coarse.dims[0] >= LEAST
                and coarse.dims[1] % blocks.block_format(coarse.dtype).block_size == 0
                and group > 1
            ):
                return coarse, fine
    return None


def keeps_order(copies: Copies) -> bool | None:
    """Whether the one of two copies that was rounded block by block has the levels in the order of the other one; None
    of copies that do not tell."""
    ordered = _coarse_and_fine(copies)
    return None if ordered is None else out_of_order(*ordered)[0] < FEWEST


def out_of_order(coarse: Weight, fine: Weight) -> tuple[int, int]:
    """How many levels are not those of the weights beside them, in some rows; and of how many.

    Where an encoder takes the nearest level, each weight has one of its own to be held to. Else a level of a block is
    out of order where one of its weights lies above a weight of the next one.

    Args:
        coarse, fine: the copies, matrices.
    """
    chosen = _spread_runs(coarse)
    v, x = coarse.rows(chosen), fine.rows(chosen)
    unsure = torch.zeros_like(x)
    if coarse.repaired and coarse.values_edits:
        # What the repair takes off is what the encoder had to round besides.
        stored = replace(coarse, values_edits=()).rows(chosen)
        more = stored - v
        if float(more.norm()) > float((stored - x).norm()):
            return 0, 1  # it moves values elsewhere, and says nothing of their order
        back = [_Back(edit) for edit in reversed(coarse.values_edits) if isinstance(edit, Reversible)]
        if len(back) == len(coarse.values_edits):
            x = replace(fine, values_edits=(*fine.values_edits, *back)).rows(chosen)
        else:
            x = x + more
        v, unsure = stored, _unsure(coarse, chosen)
    group, near = blocks.group_of(coarse.dtype), math.gcd(NEAR_BY, coarse.dims[1])
    shared = math.gcd(near, group)
    allowed = x.abs().view(-1, near).amax(1).mul_(EIGHT_BITS).repeat_interleave(near // shared)
    allowed = allowed.view(-1, group // shared).amax(1, keepdim=True)  # [n, 1]
    rounded = fine.dtype == ONE_SCALE or (fine.repaired and fine.values_edits)
    if rounded:  # to levels, before: it is off by half of their step
        steps = math.sqrt(12) * fine.sigma_rows(chosen)
        allowed = allowed + steps.view(-1, group).amax(1, keepdim=True)
    unsure = FARTHEST * unsure.view(-1, group).amax(1, keepdim=True)
    v, x = v.view(-1, group), x.view(-1, group)  # [n, g]
    if not blocks.rounds_to_nearest(coarse.dtype):
        return levels_out_of_order(v, x, allowed + math.sqrt(2) * unsure)  # of two weights
    step = coarse.step_rows(chosen).view(-1, group)[:, :1]  # of a block: [n, 1]
    lowest, highest = v.aminmax(dim=1, keepdim=True)  # a weight beyond the last level has that one
    wrong = x.clamp(lowest, highest).sub_(v).abs_() > (step + allowed) / 2 + unsure
    return int(wrong.count_nonzero()), wrong.numel()


@dataclass(frozen=True)
class _Back:
    """What a file held before a repair, of values that are right: the repair turned round."""

    edit: Reversible

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        return self.edit.stored(values, start)

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return sigma


@dataclass(frozen=True)
class _Fitted:
    """How far numbers that a repair is fitted by may be off: the leverage of each value on them."""

    edit: Leveraged

    def touches(self, start: int, stop: int) -> bool:
        return True

    def values(self, values: Tensor, start: int) -> Tensor:
        return values

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        return sigma * self.edit.leverage(values, start).sqrt()


def _unsure(coarse: Weight, chosen: list[int]) -> Tensor:
    """Standard deviation of what repairs fitted to the other copy put into each value of some rows, [n, C]."""
    fitted = [_Fitted(edit) for edit in coarse.values_edits if isinstance(edit, Leveraged)]
    variances = [replace(coarse, values_edits=(edit,)).sigma_rows(chosen).square() for edit in fitted]
    return sum(variances, torch.zeros(len(chosen), coarse.dims[1])).sqrt()


def _spread_runs(weight: Weight) -> list[int]:
    """Rows from all over a matrix, some together: a run of them is decoded at once."""
    rows, columns = weight.dims
    runs = max(1, min(rows, max(LEAST, SAMPLED // columns)) // RUN)
    starts = torch.linspace(0, max(0, rows - RUN), runs, dtype=torch.float64).round().long()
    return sorted({row for start in starts.tolist() for row in range(start, min(rows, start + RUN))})


def levels_out_of_order(v: Tensor, x: Tensor, allowed: Tensor) -> tuple[int, int]:
    """How many levels of blocks have a weight above a weight of the next level, and how many levels there are.

    Args:
        v, x: values of the coarse and the fine copy, [n, g].
        allowed: how far above it may be, [n, 1].
    """
    x, order = x.sort(dim=1)
    v, order = v.gather(1, order).sort(dim=1, stable=True)
    x = x.gather(1, order)
    wrong = x.cummax(1).values[:, :-1] - x[:, 1:] > allowed
    next_level = v[:, 1:] != v[:, :-1]
    return int((next_level & wrong).sum()), int(next_level.sum())
