"""Zero points, scales or groups of a packed weight that are not as its scheme has them (`config.quantization`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.packed_weights import NIBBLES, other_readings, stored_words
from rosetta.diagnose.patches import for_all_names, reading
from rosetta.finding_kind import FindingKind

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
    ),
)


def propose(fault: Fault) -> Iterator[Proposal]:
    """Each accused weight that is packed, in all other ways but the order of its nibbles."""
    for suspect, weight in fault.accused_weights():
        for way, candidate in other_readings(weight):
            if way == NIBBLES:
                continue
            patch = reading(container=candidate.container)
            said = stored_words(way)
            yield Proposal(
                kind="config.quantization",
                role=suspect.role,
                repair=Repair(patches=for_all_names(suspect.model, weight, patch)),
                tensor=weight.name,
                declared=weight.entry.dtype,
                actual=said,
                message=f"{weight.name} is packed as {weight.entry.dtype}, and {said}",
                recommendation=f"pack {weight.entry.name} again as its scheme has it",
            )
