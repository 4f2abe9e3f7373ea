"""Experts, or what a router has of each, in another order (`layout.expert_order`); stacked heads likewise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rosetta.diagnose.hypotheses.permuted import Rearranged, matched, matched_numbers, sample_of_rows
from rosetta.diagnose.hypotheses.swapped import read_from
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.finding_kind import FindingKind
from rosetta.model import Patch
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "layout.expert_order",
        means="The experts of a layer, or the rows by which its router scores them, are in another order.",
        why="Experts were gathered from several ranks, or sorted by name so that 10 stands before 2, and the router "
        "was not, or the reverse.",
        repair="Each expert is read from where it lies. Write the experts in the order of the router's rows.",
        order=19,
        whole=True,
    ),
)
ROUTER = re.compile(r"blk\.\d+\.ffn_gate_inp\.weight$")
ROUTER_VECTOR = re.compile(r"blk\.\d+\.(ffn_gate_inp|exp_probs_b)\.bias$")
STACKED = re.compile(r"(blk\.\d+\.(?:ffn_\w+_exps|attn_k_b))\.(\d+)\.weight$")
SAMPLED_ROWS, SAMPLED_COLUMNS = 8, 64


def propose(fault: Fault) -> Iterator[Proposal]:
    """The order in which a router's rows or numbers, or stacked matrices of one kind, resemble the other side's."""
    if fault.recorded:
        return
    seen: set[str] = set()
    for suspect, weight in fault.accused_weights():
        other, stacked = suspect.counterpart(weight), STACKED.match(weight.name)
        if other is None or other.dims != weight.dims:
            continue
        if ROUTER.match(weight.name):
            yield from _router(suspect, weight, matched(sample_of_rows(weight), sample_of_rows(other)))
        elif ROUTER_VECTOR.match(weight.name):
            yield from _router(suspect, weight, matched_numbers(weight.values(), other.values()))
        elif stacked is not None and stacked[1] not in seen:
            seen.add(stacked[1])
            yield from _stacked(suspect, stacked[1])


def _router(suspect: Suspect, weight: Weight, order: NDArray[np.int64] | None) -> Iterator[Proposal]:
    if order is None:
        return
    taken = Rearranged(0, 0, 0, tuple(order.tolist()), weight.order)
    said = in_words(order)
    yield Proposal(
        kind="layout.expert_order",
        role=suspect.role,
        repair=Repair(patches={weight.name: lambda w: None if w is None else replace(w, order=taken)}),
        tensor=weight.name,
        message=f"{weight.name} scores the experts in another order: {said}",
        recommendation=f"write {weight.entry.name} in the order of the experts: {said}",
    )


def _stacked(suspect: Suspect, stem: str) -> Iterator[Proposal]:
    """All matrices of one stem, each read from the place of the one that it resembles."""
    own, theirs = _all_of(suspect.model.weights, stem), _all_of(suspect.other.weights, stem)
    if len(own) != len(theirs) or len(own) < 3:
        return
    samples = [
        torch.stack([w.corner(SAMPLED_ROWS, SAMPLED_COLUMNS)[:, :SAMPLED_COLUMNS].flatten() for w in side])
        for side in (own, theirs)
    ]
    order = matched(*samples)
    # Two that are exchanged are `value.swapped`.
    if order is None or int((order != np.arange(len(order))).sum()) < 3:
        return
    patches: dict[str, Patch] = {
        weight.name: read_from(own[source])
        for weight, source in zip(own, order.tolist(), strict=True)
        if own[source] is not weight
    }
    said, of_experts = in_words(order), stem.endswith("_exps")
    things, right = ("experts", "the router's rows") if of_experts else ("heads", "those of the queries")
    yield Proposal(
        kind="layout.expert_order" if of_experts else "layout.permuted",
        role=suspect.role,
        repair=Repair(patches=patches),
        tensor=f"{stem}.weight",
        message=f"{stem}.weight holds the {things} in another order: {said}",
        recommendation=f"write the {things} of {own[0].entry.name} in the order of {right}: {said}",
    )


def _all_of(weights: Mapping[str, Weight], stem: str) -> list[Weight]:
    """The matrices of all experts, or heads, in order."""
    found: list[Weight] = []
    while (weight := weights.get(f"{stem}.{len(found)}.weight")) is not None:
        found.append(weight)
    return found


def in_words(order: NDArray[np.int64]) -> str:
    """Which expert stands where, as far as a line has room."""
    moved = [
        f"{source} in the place of {place}" for place, source in enumerate(order.tolist()) if source != place
    ]
    more = f" and {len(moved) - 4} more" if len(moved) > 4 else ""
    return ", ".join(moved[:4]) + more
