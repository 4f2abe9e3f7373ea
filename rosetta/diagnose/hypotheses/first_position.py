"""Learned positions read from another row on than the first (`layout.shifted`), as of a runtime that counts from 1, or
from 2 where padding has a position of its own."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.ops.edit import OpEdit
from rosetta.ops.lookup import Embedding
from rosetta.weight import Weight

COUNTED_FROM = (1, 2)


def propose(fault: Fault) -> Iterator[Proposal]:
    """The rows from the one on that the first token was added to, and those that runtimes begin at."""
    if not fault.settings_unknown:
        return
    for node in fault.stages:
        for op in node.op.links:
            weight = (
                fault.subject.model.weights.get(f"{op.positions}.weight") if type(op) is Embedding else None
            )
            if isinstance(op, Embedding) and weight is not None:
                for first in dict.fromkeys((*_seen(fault, op, weight), *COUNTED_FROM)):
                    yield _proposal(weight, first)


def _seen(fault: Fault, op: Embedding, table: Weight) -> Iterator[int]:
    """The row nearest to what the first token's own row lacks of what was recorded."""
    truth, own = fault.recorded_value, fault.computed()
    if truth is None or own is None or truth.shape != own.shape or truth.dim() != 2 or fault.node.op != op:
        return
    rows = table.values().to(truth)  # [positions, H]
    lacking = truth[0] - (own[0] - rows[op.first])
    yield int(torch.cdist(lacking[None], rows).argmin())


def _proposal(table: Weight, first: int) -> Proposal:
    return Proposal(
        kind="layout.shifted",
        role="subject",
        repair=Repair(operations=(OpEdit(Embedding, (("first", first),)),)),
        tensor=table.name,
        declared=0,
        actual=first,
        message=f"{table.name} is read from row {first} on, as if positions were counted from {first}",
        recommendation="count the positions of a text from 0",
    )
