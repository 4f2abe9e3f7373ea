"""Two tensors exchanged: gate and up, a tensor of two layers (`value.swapped`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, looks_like, resembles
from rosetta.diagnose.patches import InMemory
from rosetta.finding_kind import FindingKind
from rosetta.model import Patch
from rosetta.names import LAYER
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "value.swapped",
        means="Two tensors are exchanged: each holds the values of the other.",
        why="A fused gate_up tensor is cut and its halves named the wrong way round, a table of names pairs two of "
        "them wrongly, or a lookup by a part of the name finds another tensor (output.weight in attn_output.weight).",
        repair="Each is read from where the other is stored. Exchange their names on export.",
        order=30,
        whole=True,
    ),
)

LIKENESS = 0.4  # correlation of some rows; unrelated matrices have none, norms always some


def propose(fault: Fault) -> Iterator[Proposal]:
    """Each other tensor of the same dims whose content the accused one has, and the reverse."""
    if fault.recorded:
        return  # which `swapped_in_run` proposes
    for suspect, weight in fault.accused_weights():
        partner = _first(suspect, weight)
        if partner is not None:
            yield Proposal(
                kind="value.swapped",
                role=suspect.role,
                repair=Repair(patches={weight.name: read_from(partner), partner.name: read_from(weight)}),
                tensor=weight.name,
                partner=partner.name,
                message=f"{weight.name} holds the values of {partner.name}, and the reverse",
                recommendation=f"exchange {weight.entry.name} and {partner.entry.name} on export",
            )


def _first(suspect: Suspect, weight: Weight) -> Weight | None:
    """The first tensor that is exchanged with one, by what the other side's hold."""
    alike = tensors_alike(suspect, weight)
    return next((partner for partner in alike if _exchanged(suspect, weight, partner)), None)


def _exchanged(suspect: Suspect, weight: Weight, partner: Weight) -> bool:
    """Whether each of two weights is what the other side has under the other name; one of them may have another
    fault besides."""
    here, there = in_place_of(weight, partner), in_place_of(partner, weight)
    ours, theirs = suspect.other.weights.get(weight.name), suspect.other.weights.get(partner.name)
    if ours is None or theirs is None or resembles(ours, theirs):  # an exchange of copies is none
        return False
    alike = looks_like(here, ours, LIKENESS, either_sign=True) and looks_like(
        there, theirs, LIKENESS, either_sign=True
    )
    return alike and (resembles(here, ours) or resembles(there, theirs))


def read_from(source: Weight) -> Patch:
    """The patch that reads a weight from where another one is stored."""

    def patch(found: Weight | None) -> Weight | None:
        return None if found is None else in_place_of(found, source)

    return patch


def in_place_of(weight: Weight, source: Weight) -> Weight:
    """The weight read from where another one is stored, its rows ordered as its own name demands."""
    return replace(
        weight,
        container=source.container,
        entry=source.entry,
        dtype=source.dtype,
        stored_dims=source.stored_dims,
        transposed=source.transposed,
        slot=source.slot,
        part=source.part,
        columns=source.columns,
        bytes_edit=source.bytes_edit,
        values_edits=source.values_edits,
    )


def tensors_alike(suspect: Suspect, weight: Weight) -> Iterator[Weight]:
    """Tensors of the same dims: those of the same layer first, then the same tensor of other layers. One that a repair
    made is where no file has it."""
    found = LAYER.match(weight.name)
    expected = suspect.model.expected_dims.get(weight.name)
    alike: list[tuple[bool, bool, int, Weight]] = []
    for name, other in suspect.model.weights.items():
        if name == weight.name or other.same_place(weight) or suspect.model.expected_dims.get(name) is None:
            continue
        if isinstance(other.container, InMemory):
            continue
        place = LAYER.match(name)
        same_layer = bool(found and place and found[1] == place[1])
        same_tensor = bool(found and place and found[2] == place[2])
        fits = other.dims == (expected or weight.dims) or suspect.model.expected_dims[name] == weight.dims
        if fits and (same_layer or same_tensor or found is None or place is None):
            alike.append((not same_layer, not same_tensor, len(alike), other))
    yield from (other for *_, other in sorted(alike, key=lambda item: item[:3]))
