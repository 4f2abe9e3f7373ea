"""The parts of a fused tensor in another order than q, k, v (`layout.fused_order`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, looks_like
from rosetta.diagnose.patches import reading
from rosetta.finding_kind import FindingKind
from rosetta.model import LAYER, Patch
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "layout.fused_order",
        means="The parts of a fused tensor (q, k and v in attn_qkv) stand in another order.",
        why="An exporter concatenates them in its own order, or cuts a grouped-query model's tensor in equal thirds.",
        repair="The parts are read in the order in which they agree. Concatenate them as the architecture demands.",
        whole=True,
    ),
)


def propose(fault: Fault) -> Iterator[Proposal]:
    """The order of parts in which each accused fused tensor resembles the other side's."""
    for suspect, weight in fault.accused_weights():
        if weight.part is None or not weight.name.startswith("blk."):
            continue
        parts = sorted(
            (w for w in suspect.model.weights.values() if w.beside(weight) and w.part),
            key=lambda w: w.part.which if w.part else 0,
        )
        for order in permutations(range(len(parts))):
            if order != tuple(sorted(order)):
                yield from _in_order(fault, suspect, parts, order)


def _in_order(
    fault: Fault, suspect: Suspect, parts: list[Weight], order: tuple[int, ...]
) -> Iterator[Proposal]:
    """The proposal that the file stores part order[0] first, then order[1], …"""
    first = parts[0].part
    assert first is not None
    stored = tuple(first.sizes[which] for which in order)
    repaired = [
        replace(part, part=replace(first, which=order.index(which), sizes=stored))
        for which, part in enumerate(parts)
    ]
    others = [suspect.other.weights.get(part.name) for part in parts]
    alike = [
        other is not None and looks_like(part, other) for part, other in zip(repaired, others, strict=True)
    ]
    if not fault.recorded and not all(alike):
        return
    patches: dict[str, Patch] = {part.name: reading(part=part.part) for part in repaired}
    if not fault.recorded:
        yield _proposal(suspect, parts, order, patches)
        return
    # Of a recorded run the weight alone proves nothing while the bias, exchanged with it, is still in the wrong order.
    biases = {
        name: reading(part=part.part)
        for part in repaired
        if (name := part.name.replace(".weight", ".bias")) in suspect.model.weights and name != part.name
    }
    for tried in (patches, patches | biases) if biases else (patches,):
        stages = (f"layers.{fault.layer}.{part}" for part in ("q", "k", "v"))
        if all(fault.agrees_at(Repair(patches=tried), stage) for stage in stages):
            yield _proposal(suspect, parts, order, tried)


def _proposal(
    suspect: Suspect, parts: list[Weight], order: tuple[int, ...], patches: dict[str, Patch]
) -> Proposal:
    short = [LAYER.sub(r"\2", part.name).rpartition(".")[0].removeprefix("attn_") for part in parts]
    found, wanted = ", ".join(short[which] for which in order), ", ".join(short)
    own, fused = parts[0].entry.name, parts[0].name.replace(".attn_q.", ".attn_qkv.")
    both = " (weight and bias)" if len(patches) > len(parts) else ""
    return Proposal(
        kind="layout.fused_order",
        role=suspect.role,
        repair=Repair(patches=patches),
        tensor=fused,
        declared=wanted,
        actual=found,
        message=f"{fused} holds its parts in the order {found}, not {wanted}{both}",
        recommendation=f"concatenate the parts of {own} in the order {wanted}",
    )
