"""Zero points, scales or groups of a packed weight that are not as its scheme has them (`config.quantization`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.packed_numbers import PlacedReading
from rosetta.diagnose.packed_weights import (
    counterparts_of,
    for_all_of,
    in_one_tensor,
    name_of,
    other_readings,
    stored_words,
    with_counterparts,
)
from rosetta.diagnose.patches import reading
from rosetta.diagnose.placed_readings import placed_readings
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "config.quantization",
        means="The zero points, scales or groups of a quantised weight are stored or read otherwise than its scheme "
        "has them.",
        why="A version of the format that stores zero points less one is taken for one that does not; scales are left "
        "out, inverted or read along the wrong axis; the group index of columns that were sorted is not looked at.",
        repair="The codes are read with zero points, scales or groups as they must have been meant. Quantise the model "
        "again with a current version of the library, or have the converter read the scheme as the config states it.",
        order=15,
        title="quantisation mismatch",
        whole=True,
        together="are packed or decoded otherwise than their scheme has it, each alike: {actual}",
        of_file="write the {side} side again as its scheme has it, or have its config say how it is packed: in GPTQ's "
        "checkpoint_format gptq means zero points that are stored less one, gptq_v2 such as they are",
        alike=True,
    ),
)


def propose(fault: Fault) -> Iterator[Proposal]:
    """Each accused weight that is packed, in all other ways but the order of its nibbles."""
    for suspect, weight in fault.accused_weights():
        for way, candidate in other_readings(weight):
            if way.swapped:
                continue
            for weights in in_one_tensor(fault, suspect, weight):
                yield _proposal(suspect, weights, PlacedReading(candidate, stored_words(way), ""))
        for pairs in with_counterparts(fault, suspect, weight):
            for found in placed_readings(pairs, partial(counterparts_of, suspect)):
                yield _proposal(suspect, [own for own, _ in pairs], found)


def _proposal(suspect: Suspect, weights: Sequence[Weight], found: PlacedReading) -> Proposal:
    weight, patch = weights[0], reading(container=found.container)
    partner = name_of(found.partner) if found.partner else None
    return Proposal(
        kind=found.kind,
        role=suspect.role,
        repair=Repair(patches=for_all_of(suspect.model, [*weights, *found.partner], patch)),
        tensor=name_of(weights),
        partner=partner,
        declared=weight.entry.dtype,
        actual=found.stored,
        message=f"{name_of(weights)} is packed as {weight.entry.dtype}, and {found.stored}",
        recommendation=f"pack {weight.entry.name} again as its scheme has it",
        from_reference=found.from_reference,
    )
