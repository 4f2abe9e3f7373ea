"""Heads of queries, keys or values in another order, or exchanged with those of another of the three
(`layout.permuted`, `layout.fused_order`), read off a recorded run.

Letters: T = tokens, N = heads of the stage, D = head size, R = rows of its matrix, N·D.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rosetta.diagnose.hypotheses.exchanged_parts import RowsOf
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.patches import edited
from rosetta.diagnose.permutations import first_of
from rosetta.graph import Node
from rosetta.model import Patch
from rosetta.ops.edit import Followed
from rosetta.ops.linear import Linear
from rosetta.ops.op import Op, Rounding, Spread, Step
from rosetta.weight import Weight

LIKE = 0.9999  # cosine of a head, or a row, with its counterpart
FEWEST = 4  # tokens by which rows are told from each other


@dataclass(frozen=True)
class HeadsTaken(Op):
    """Heads taken from other places of the same stage, [T, N, D].

    Args:
        order: for each head the one that is taken.
    """

    order: tuple[int, ...]

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        return inputs[0][:, list(self.order)]

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        if before is None:
            return Spread(torch.zeros((), device=y.device), torch.zeros((), device=y.device))
        explained, floor = (x.expand_as(y)[:, list(self.order)] for x in (before.explained, before.floor))
        return Spread(explained, floor)


@dataclass(frozen=True)
class Heads:
    """Where each head, or row, of a recorded stage is found among ours.

    Args:
        stages: the fault's own, and others of its layer that are computed from the same.
        which, place: for each recorded one the stage, by its number there, and its place in that.
        width: rows of each: D of a head, or 1.
    """

    stages: tuple[Node, ...]
    which: tuple[int, ...]
    place: tuple[int, ...]
    width: int


def propose(fault: Fault) -> Iterator[Proposal]:
    """The order of heads in which ours are the recorded ones."""
    truth = fault.recorded_value
    if truth is None or truth.dim() != 3 or fault.node.stage == "attn_scores" or truth.shape[1] < 2:
        return
    found = _found(fault, truth, truth.shape[-1])
    if not isinstance(fault.node.op, Linear):
        if found is not None:
            yield _of_stage(fault, found.place)
        return
    if found is None and len(truth) >= FEWEST:  # the rows of a head may lie in another order as well
        found = _found(fault, truth, 1)
        if found is not None and _is_rotary(found, truth.shape[-1]):
            return  # which `rope_order` proposes
    if found is not None:
        yield from _of_rows(fault, found)


def _found(fault: Fault, truth: Tensor, width: int) -> Heads | None:
    """Where each recorded head, or row, lies; None where one is nowhere, or all are in place."""
    stages = (fault.node, *_beside(fault))
    own = [fault.computed(stage=stage.name) for stage in stages]
    if own[0] is None or own[0].shape != truth.shape:
        return None
    places, rows = [], []
    for number, value in enumerate(own):
        if value is not None and value.dim() == 3 and value.shape[::2] == truth.shape[::2]:
            rows.append(_directions(value, width))
            places += [(number, place) for place in range(len(rows[-1]))]
    likeness = _directions(truth, width) @ torch.cat(rows).T  # [N, all heads], or [R, all rows]
    best = likeness.max(1)
    if float(best.values.min()) < LIKE:
        return None
    chosen = [places[i] for i in best.indices.tolist()]
    if chosen == places[: len(chosen)] or len(set(chosen)) < len(chosen):
        return None
    which, place = zip(*chosen, strict=True)
    return Heads(stages, which, place, width)


def _is_rotary(found: Heads, size: int) -> bool:
    """Whether the first rows of each head lie in the other rotary order, and all else is in place.

    Args:
        found: rows, each by itself.
        size: of a head.
    """
    place = np.array(found.place).reshape(-1, size)
    within = place - size * np.arange(len(place))[:, None]
    if any(found.which) or bool((within != within[0]).any()):
        return False
    for turned in range(4, size + 1, 2):
        rest, woven = np.arange(turned, size), np.arange(turned).reshape(2, -1).T.reshape(-1)
        if any(np.array_equal(within[0], np.append(order, rest)) for order in (woven, np.argsort(woven))):
            return True
    return False


def _beside(fault: Fault) -> Iterator[Node]:
    """Other stages of heads that the same input gives, each by a matrix of its own."""
    if not isinstance(fault.node.op, Linear):
        return
    for node in fault.pair.subject.graph:
        if node.name != fault.stage and node.inputs == fault.node.inputs and isinstance(node.op, Linear):
            yield node


def _directions(x: Tensor, width: int) -> Tensor:
    """Each head, or row, as one unit vector over all tokens, float64 [N, T·D] or [R, T]."""
    rows = x.double().reshape(len(x), -1, width).transpose(0, 1).flatten(1)
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1e-30)
    directions: Tensor = rows / lengths
    return directions


def _of_stage(fault: Fault, order: tuple[int, ...]) -> Proposal:
    """The heads of a stage without a matrix of its own."""
    said = _in_words(order, "heads")
    return Proposal(
        kind="layout.permuted",
        role="subject",
        repair=Repair(operations=(Followed(fault.node.stage, HeadsTaken(order)),)),
        message=f"heads lie in their own order, in what was recorded {said}",
        recommendation="leave the heads in their order",
        key=f"{fault.node.stage}.heads",
        declared="in their own order",
        actual=said,
    )


def _of_rows(fault: Fault, found: Heads) -> Iterator[Proposal]:
    """The rows of the stage's matrix, and with them the values of its bias."""
    weights = fault.subject.model.weights
    names = [f"blk.{node.layer}.{node.op.stem}" for node in found.stages if isinstance(node.op, Linear)]
    used = sorted({0, *found.which})
    if 0 not in found.which and len(used) == 2:
        return  # the matrices themselves are exchanged, which `swapped_in_run` proposes
    which = np.repeat([used.index(number) for number in found.which], found.width)
    rows = (np.array(found.place)[:, None] * found.width + np.arange(found.width)).reshape(-1)
    patches: dict[str, Patch] = {}
    for part in ("weight", "bias"):
        sources = [weights.get(f"{names[number]}.{part}") for number in used]
        held = tuple(source for source in sources if source is not None)
        if part == "weight" or held:
            if len(held) < len(used) or any(x.dims[1:] != held[0].dims[1:] for x in held):
                return
            patches |= _taken(held, which, rows)
    target = weights[f"{names[0]}.weight"]
    if target.dims[0] != len(rows):
        return
    partner = next((names[number] for number in used if number), None)
    said = (
        _in_words(found.place, "heads" if found.width > 1 else "rows")
        if partner is None
        else f"some of its rows are those of {partner}.weight"
    )
    yield Proposal(
        kind="layout.permuted" if partner is None else "layout.fused_order",
        role="subject",
        repair=Repair(patches=patches),
        tensor=target.name,
        partner=None if partner is None else f"{partner}.weight",
        message=f"{target.name} has rows in another place: {said}",
        recommendation=f"put the rows of {target.entry.name} back",
    )


def _taken(
    sources: tuple[Weight, ...], which: NDArray[np.int64], rows: NDArray[np.int64]
) -> dict[str, Patch]:
    """The patches that take the first tensor's rows from these rows of the sources, and give each of these its rows in
    return."""
    target, *others = sources
    patches: dict[str, Patch] = {target.name: edited(RowsOf(sources, which, rows))}
    for number, source in enumerate(others, 1):
        taken = np.flatnonzero(which == number)
        back, own = np.zeros(source.dims[0], dtype=np.int64), np.arange(source.dims[0])
        back[rows[taken]], own[rows[taken]] = 1, taken
        patches[source.name] = edited(RowsOf((source, target), back, own))
    return patches


def _in_words(order: tuple[int, ...], what: str) -> str:
    return f"{what} lie in the order {first_of(np.array(order))}"
