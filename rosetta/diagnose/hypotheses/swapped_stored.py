"""Two stored tensors of a layer exchanged that are read in different ways: keys and values of latent attention
(`value.swapped`). Those that are read alike are `swapped`'s."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.canonical_weights import read_tensor
from rosetta.containers.container import TensorEntry
from rosetta.diagnose.hypotheses.swapped import LIKENESS
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, looks_like
from rosetta.diagnose.patches import instead
from rosetta.errors import RosettaError
from rosetta.names import LAYER
from rosetta.weight import Weight


def propose(fault: Fault) -> Iterator[Proposal]:
    """For each stored tensor that several weights are read from: another one of its layer of as many values, where all
    that is read of the two the other way round is what the other side has."""
    if fault.recorded:
        return
    seen: set[str] = set()
    for suspect, weight in fault.accused_weights():
        own = weight.fused or weight.name
        if own in seen or weight.fused is None or LAYER.match(own) is None:
            continue
        seen.add(own)
        for name, entry in _of_layer(suspect, own).items():
            found = _exchanged(suspect, (own, weight.entry), (name, entry))
            if found:
                yield Proposal(
                    kind="value.swapped",
                    role=suspect.role,
                    repair=Repair(patches={read.name: instead(read) for read in found}),
                    tensor=own,
                    partner=name,
                    message=f"{own} holds the values of {name}, and the reverse",
                    recommendation=f"exchange {weight.entry.name} and {entry.name} on export",
                )
                return


def _of_layer(suspect: Suspect, own: str) -> dict[str, TensorEntry]:
    """The other stored tensors of the layer that hold as many values, by their canonical names as a whole."""
    weights, start = suspect.model.weights.values(), own[: own.index(".", 4) + 1]
    stored = {w.fused or w.name: w.entry for w in weights if w.name.startswith(start)}
    count = _count(stored[own])
    return {name: entry for name, entry in stored.items() if name != own and _count(entry) == count}


def _count(entry: TensorEntry) -> int:
    count = 1
    for dim in entry.dims:
        count *= dim
    return count


def _exchanged(
    suspect: Suspect, one: tuple[str, TensorEntry], other: tuple[str, TensorEntry]
) -> list[Weight]:
    """What is read of two tensors under each other's names, where all of it resembles the other side's; else none."""
    model, layer = suspect.model, LAYER.match(one[0])
    c = model.settings_of(int(layer[1]) if layer else None)
    try:
        found = [
            weight
            for (name, _), (_, entry) in ((one, other), (other, one))
            for weight in read_tensor(model.container, model.architecture, c, name, entry)
        ]
    except RosettaError:
        return []
    theirs = [suspect.other.weights.get(weight.name) for weight in found]
    alike = all(b is not None and looks_like(a, b, LIKENESS) for a, b in zip(found, theirs, strict=True))
    return found if alike else []
