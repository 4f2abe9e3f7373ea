"""A tensor that stands in another one's place too: its values are there twice, the other's nowhere."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypotheses.swapped import in_place_of, tensors_alike
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, resembles
from rosetta.diagnose.patches import instead, of_weights
from rosetta.weight import Weight

KIND = "value.other_weights"
TIED = {"token_embd.weight", "output.weight"}


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's values for a weight that is a copy of another one.

    What is taken from the other side proves nothing; that the two are one on this side, and that the other side has
    the very values where they belong, does.
    """
    if fault.recorded:  # it has no weights to find them in
        return
    for name in fault.names():
        for suspect in (fault.subject, fault.reference):
            weight = suspect.model.weights.get(name)
            other = None if weight is None else suspect.counterpart(weight)
            if weight is None or other is None or other.dims != weight.dims:
                continue
            if resembles(weight, other):
                continue
            yield from _copy(suspect, weight, other)


def _copy(suspect: Suspect, weight: Weight, other: Weight) -> Iterator[Proposal]:
    for partner in tensors_alike(suspect, weight):
        theirs = suspect.other.weights.get(partner.name)
        # The bytes may have been copied, or the values: rotary rows are in the order of their own tensor.
        copied = resembles(weight, in_place_of(weight, partner)) or resembles(weight, partner)
        if theirs is None or not copied or not resembles(partner, theirs):
            continue
        if suspect.model["tied_embeddings"] and {weight.name, partner.name} == TIED:
            continue  # they are one, as they are to be
        yield Proposal(
            kind=KIND,
            role=suspect.role,
            repair=Repair(patches={weight.name: instead(other)}),
            tensor=weight.name,
            partner=partner.name,
            message=f"{weight.name} holds the values of {partner.name}, which stand there too: its own are not in "
            "the file",
            recommendation=f"write its own values to {weight.entry.name}: {partner.entry.name} was exported twice",
            from_reference=of_weights(weight.count, weight.count),
            taken=weight.count,
        )
        return
