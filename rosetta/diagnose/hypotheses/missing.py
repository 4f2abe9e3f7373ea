"""A tensor that one side lacks (`value.missing`): a bias, a norm, the positions, a projection."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import instead
from rosetta.finding_kind import FindingKind
from rosetta.model import LAYER

KINDS = (
    FindingKind(
        "value.missing",
        means="A tensor that the other side has is missing.",
        why="A role is unknown to the exporter (the biases of q, k and v, the norms of q and k, an untied head), its "
        "name was cut short or given a prefix, or an index that must be sorted is not.",
        repair="The tensor is taken from the reference. Export it under the name that the file's readers look for.",
        order=80,
        title="missing weight",
    ),
)

TAKES_FROM_REFERENCE = True


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's copy of each tensor of the stage that a side lacks."""
    for name in fault.names():
        for suspect in (fault.subject, fault.reference):
            other = suspect.other.weights.get(name)
            if name in suspect.model.weights or other is None or lacks_layer(suspect, name):
                continue
            own = other.entry.name
            yield Proposal(
                kind="value.missing",
                role=suspect.role,
                repair=Repair(patches={name: instead(other)}),
                tensor=name,
                message=f"{name} is missing, the other side has it with dims {list(other.dims)}",
                recommendation=f"export {name} (the other file calls it {own})",
                from_reference=f"all {other.count} weights",
            )


def lacks_layer(suspect: Suspect, name: str) -> bool:
    """Whether the layer is absent as a whole: then its tensors are accused of nothing."""
    found = LAYER.match(name)
    return found is not None and not any(
        other.startswith(f"blk.{found[1]}.") for other in suspect.model.weights
    )
