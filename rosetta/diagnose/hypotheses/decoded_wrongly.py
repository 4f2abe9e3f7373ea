"""Values that a converter decoded wrongly from the packed weight of the other side (`config.quantization`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rosetta.compare.pairing import other_role
from rosetta.diagnose.hypothesis import Fault, Proposal, Suspect, looks_like
from rosetta.diagnose.packed_weights import (
    DecodedAnew,
    decoded_words,
    is_packed,
    other_readings,
    with_counterparts,
)
from rosetta.diagnose.patches import changed
from rosetta.diagnose.placed_readings import placed_readings
from rosetta.weight import Weight


def propose(fault: Fault) -> Iterator[Proposal]:
    """Each accused weight that no scheme packed, and whose counterpart, read wrongly, is what it holds."""
    for suspect, weight in fault.accused_weights():
        other = suspect.counterpart(weight)
        if other is None or other.dims != weight.dims or is_packed(weight):
            continue
        for way, folder in other_readings(other):
            wrong = replace(other, container=folder)
            if looks_like(weight, wrong):
                kind = "dtype.block_order" if way.swapped else "config.quantization"
                edit = DecodedAnew(other, wrong, way.scales != "as stored")
                yield _proposal(suspect, weight, other, edit, kind, decoded_words(way))
        turned = Suspect(other_role(suspect.role), suspect.other, suspect.model)
        for pairs in with_counterparts(fault, turned, other):
            for found in placed_readings(pairs):
                edit = DecodedAnew(other, replace(other, container=found.container), proportional=False)
                yield _proposal(suspect, weight, other, edit, found.kind, found.decoded)


def _proposal(
    suspect: Suspect, weight: Weight, other: Weight, edit: DecodedAnew, kind: str, said: str
) -> Proposal:
    return Proposal(
        kind=kind,
        role=suspect.role,
        repair=changed(suspect.model, weight, edit),
        tensor=weight.name,
        declared=other.entry.dtype,
        actual=f"decoded {said}",
        message=f"{weight.name} is the other side's {other.entry.dtype} decoded {said}",
        recommendation=f"convert {weight.entry.name} again, its codes decoded as their scheme says",
    )
