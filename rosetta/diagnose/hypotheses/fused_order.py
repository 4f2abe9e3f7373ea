"""The parts of a fused tensor in another order than q, k, v, or each whole where those of a head lie beside each other,
or the reverse (`layout.fused_order`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, looks_like
from rosetta.diagnose.patches import reading
from rosetta.finding_kind import FindingKind
from rosetta.model import Patch
from rosetta.names import LAYER
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "layout.fused_order",
        means="The parts of a fused tensor (q, k and v in attn_qkv) stand in another order, or are grouped otherwise.",
        why="An exporter concatenates them in its own order, or cuts a grouped-query model's tensor in equal thirds. "
        "Or it takes all of q, then all of k and v, where the architecture has those of each head beside each other "
        "(GPT-NeoX, BLOOM, Falcon), or the reverse.",
        repair="The parts are read in the order in which they agree. Concatenate them as the architecture demands.",
        whole=True,
    ),
)
MOST_PARTS = 3  # q, k and v


def propose(fault: Fault) -> Iterator[Proposal]:
    """The order of parts in which each accused fused tensor resembles the other side's."""
    for suspect, weight in fault.accused_weights():
        if weight.part is None or not weight.name.startswith("blk."):
            continue
        parts = parts_of(suspect, weight)
        if len(parts) > MOST_PARTS:  # latent keys of many heads: their orders are beyond counting
            continue
        for order, groups, repaired in arrangements(fault, suspect, parts):
            yield from _in_order(fault, suspect, parts, order, groups, repaired)


def parts_of(suspect: Suspect, weight: Weight) -> list[Weight]:
    """All weights that are parts of the tensor that holds one of them, in the order of the parts."""
    return sorted(
        (w for w in suspect.model.weights.values() if w.beside(weight) and w.part),
        key=lambda w: w.part.which if w.part else 0,
    )


def arrangements(
    fault: Fault, suspect: Suspect, parts: list[Weight]
) -> Iterator[tuple[tuple[int, ...], int, list[Weight]]]:
    """Each other way in which the file may store the parts: in each of so many groups, part order[0] first, then
    order[1], …; and the parts as they are then read."""
    first = parts[0].part
    assert first is not None
    for groups in _groupings(fault, suspect, parts):
        for order in permutations(range(len(parts))):
            if order == tuple(sorted(order)) and groups == first.groups:
                continue
            stored = tuple(first.sizes[which] * first.groups // groups for which in order)
            repaired = [
                replace(part, part=replace(first, which=order.index(which), sizes=stored, groups=groups))
                for which, part in enumerate(parts)
            ]
            yield order, groups, repaired


def _groupings(fault: Fault, suspect: Suspect, parts: list[Weight]) -> list[int]:
    """In how many groups of rows the parts may lie beside each other: as they are read, in one, or a head each."""
    first, c = parts[0].part, suspect.model.settings_of(fault.layer)
    assert first is not None
    heads = (c.get("attention.head_count"), c.get("attention.head_count_kv"))
    possible = dict.fromkeys([first.groups, 1, *(n for n in heads if isinstance(n, int) and n > 0)])
    return [
        n for n in possible if first.also == () and all(size * first.groups % n == 0 for size in first.sizes)
    ]


def _in_order(
    fault: Fault,
    suspect: Suspect,
    parts: list[Weight],
    order: tuple[int, ...],
    groups: int,
    repaired: list[Weight],
) -> Iterator[Proposal]:
    """The proposal that the file stores the parts so, see `arrangements`."""
    others = [suspect.other.weights.get(part.name) for part in parts]
    alike = [
        other is not None and looks_like(part, other) for part, other in zip(repaired, others, strict=True)
    ]
    if not fault.recorded and not all(alike):
        return
    patches: dict[str, Patch] = {part.name: reading(part=part.part) for part in repaired}
    if not fault.recorded:
        yield _proposal(suspect, parts, order, groups, patches)
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
            yield _proposal(suspect, parts, order, groups, tried)


def _proposal(
    suspect: Suspect, parts: list[Weight], order: tuple[int, ...], groups: int, patches: dict[str, Patch]
) -> Proposal:
    read_in = parts[0].part
    assert read_in is not None
    short = [LAYER.sub(r"\2", part.name).rpartition(".")[0].removeprefix("attn_") for part in parts]
    found, wanted = ", ".join(short[which] for which in order), ", ".join(short)
    if groups != read_in.groups:
        found, wanted = f"{found}{_grouped(groups)}", f"{wanted}{_grouped(read_in.groups)}"
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


def _grouped(groups: int) -> str:
    """How the parts lie, as the end of a list of them."""
    return " each whole" if groups == 1 else f" of each of {groups} heads beside each other"
