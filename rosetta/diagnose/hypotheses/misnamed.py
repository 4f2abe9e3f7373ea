"""A tensor that a file has under a name that no reader looks for (`value.missing`): none of its values are lost."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rosetta.blocks import block_format
from rosetta.canonical_weights import read_tensor
from rosetta.containers.container import TensorEntry
from rosetta.diagnose.hypotheses.missing import in_place_of
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, resembles
from rosetta.diagnose.tensor_names import own_name, stacked
from rosetta.errors import UnsupportedError
from rosetta.names import LAYER
from rosetta.weight import Weight


def propose(fault: Fault) -> Iterator[Proposal]:
    """For each tensor of the stage that a side lacks, the one that nothing reads and that holds its values."""
    if fault.recorded:
        return
    for name in fault.names():
        for suspect in (fault.subject, fault.reference):
            other = suspect.other.weights.get(name)
            if other is None or name in suspect.model.weights:
                continue
            held = _under_another_name(suspect, name, other)
            if not held:
                continue
            entry, own = held[0].entry.name, own_name(suspect.model, name, other)
            tensor = name if len(held) == 1 else stacked(name)
            yield Proposal(
                kind="value.missing",
                role=suspect.role,
                repair=Repair(patches=in_place_of(suspect, held)),
                tensor=tensor,
                message=f"{tensor} is not there under that name: {entry}, which nothing reads, holds its values",
                recommendation=f"call {entry} {own} in {suspect.model.container.path}",
            )


def _under_another_name(suspect: Suspect, name: str, other: Weight) -> list[Weight]:
    """The weights that a tensor of an unknown name would be under this one, where it is the other side's."""
    model, found = suspect.model, LAYER.match(name)
    layer = None if found is None else int(found[1])
    if layer is not None and layer >= model.block_count:
        return []
    for own in model.unknown:
        entry = model.container.tensors[own]
        if not _holds_weights(entry) or math.prod(entry.dims) % other.count:
            continue
        for whole in dict.fromkeys((name, stacked(name))):
            held = read_tensor(model.container, model.architecture, model.settings_of(layer), whole, entry)
            if any(w.name == name and w.dims == other.dims and resembles(w, other) for w in held):
                return held
    return []


def _holds_weights(entry: TensorEntry) -> bool:
    """Whether a tensor has values, and none that count something or are codes."""
    try:
        return entry.nbytes > 0 and block_format(entry.dtype).write_sigma is not None
    except UnsupportedError:
        return False
