"""Which tensors a repaired file has, and which weights each is made of. Reads no tensor data, writes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from rosetta.config import LARGEST_BLOCK_COUNT
from rosetta.containers.container import Container, TensorEntry
from rosetta.containers.stand_in import StandIn
from rosetta.diagnose.hypotheses.adapter_beside import module_around
from rosetta.edits import Reversible
from rosetta.errors import UnsupportedError
from rosetta.model import Model, build_model
from rosetta.names import FOREIGN_LAYER, LAYER, canonical_names
from rosetta.repair.names import members, own_name, parts_of
from rosetta.repair.planned import EMBEDDING, HEAD, ROPE_FACTORS, Held, Planned
from rosetta.weight import Weight


@dataclass(frozen=True)
class Layout:
    """The tensors of a repaired file.

    Args:
        tensors: in the order of the file to be repaired, added ones behind.
        dropped: the file's names of tensors that the repaired model has no place for.
    """

    tensors: tuple[Planned, ...]
    dropped: tuple[str, ...]


class Extended(StandIn):
    """A container as it will be read with some tensors added, of which there is nothing yet."""

    def __init__(self, original: Container, added: Mapping[str, TensorEntry]) -> None:
        super().__init__(original)
        self.tensors = {**original.tensors, **added}


def repaired_layout(base: Model, weights: Mapping[str, Weight], settings: Mapping[str, Any]) -> Layout:
    """Which tensors the repaired file has.

    Args:
        base: the model as its file holds it.
        weights: what it should hold, by canonical name.
        settings: canonical settings that the repaired file will state in place of the file's own.

    Raises:
        UnsupportedError: a tensor is missing, and how the file would call it cannot be told.
    """
    names = _canonical(base, weights)
    dropped = tuple(own for own, name in names.items() if _has_no_place(base, name, weights, settings))
    added = _added(base, {own: name for own, name in names.items() if own not in dropped}, weights, settings)
    # What peft keeps of a module that it stands around, once the module's own weight is written.
    dropped += tuple(own for own in names if f"{module_around(own)}.weight" in added)
    extended = Extended(base.container, {own: entry for own, (_, entry) in added.items()})
    expected = build_model(extended, settings).weights
    names |= {own: name for own, (name, _) in added.items()}
    tensors = (
        _planned(base, own, names[own], weights, expected) for own in extended.tensors if own not in dropped
    )
    return Layout(tuple(tensors), dropped)


def is_tied(weights: Mapping[str, Weight]) -> bool:
    """Whether the head is the embedding itself, and no copy of it."""
    head, embedding = weights.get(HEAD), weights.get(EMBEDDING)
    return head is not None and embedding is not None and replace(head, name=EMBEDDING) == embedding


def _planned(
    base: Model, own: str, name: str | None, weights: Mapping[str, Weight], expected: Mapping[str, Weight]
) -> Planned:
    """One tensor: copied where a reader of the repaired file makes of its old bytes what it should hold."""
    original = base.container.tensors.get(own)
    held, is_right = [], True
    for member in _members(base, own, name, expected):
        read = expected.get(member)
        if read is None or read.entry.name != own:  # a tied head that the file keeps a copy of
            read = base.weights.get(member)
        if read is None or read.entry.name != own or member not in weights:
            continue
        held.append(
            (Held(weights[member], read.order, read.part, read.slot, _own_edit(read)), read.transposed)
        )
        is_right &= replace(read, container=base.container) == weights[member]
    if not held or (is_right and original is not None):
        return Planned(own, original)
    return Planned(own, original, tuple(one for one, _ in held), held[0][1])


def _own_edit(read: Weight) -> Reversible | None:
    """What its architecture's reading makes of the stored values."""
    return cast(Reversible, read.values_edits[0]) if read.values_edits else None


def _members(base: Model, own: str, name: str | None, expected: Mapping[str, Weight]) -> list[str]:
    """The canonical weights that a tensor of the file is read as, or would be."""
    read = [
        other
        for weights in (expected, base.weights)
        for other, w in weights.items()
        if w.entry.name == own and not (other == HEAD and name == EMBEDDING)  # a tied head
    ]
    return list(dict.fromkeys([*read, *(members(name) if name else ())]))


def _canonical(base: Model, weights: Mapping[str, Weight]) -> dict[str, str | None]:
    """The canonical name of every tensor of the file."""
    numbers = [int(found[1]) for name in weights if (found := LAYER.match(name))]
    numbers += [int(found[1]) for own in base.container.tensors if (found := FOREIGN_LAYER.search(own))]
    layers = min(max(numbers, default=0) + 1, LARGEST_BLOCK_COUNT)
    return canonical_names(base.container.tensors, base.architecture, layers)


def _has_no_place(
    base: Model, name: str | None, weights: Mapping[str, Weight], settings: Mapping[str, Any]
) -> bool:
    """Whether the repaired model has nothing of that name."""
    layer = LAYER.match(name or "")
    if layer and "block_count" in settings:
        return int(layer[1]) >= int(settings["block_count"])
    if name == HEAD:  # an `.apr` keeps its copy of the embedding: not every loader ties (aprender #2441)
        return base.container.kind != "apr" and is_tied(weights) and not is_tied(base.weights)
    return name == ROPE_FACTORS and "rope.scaling" in settings  # stated anew


def _added(
    base: Model, names: Mapping[str, str | None], weights: Mapping[str, Weight], settings: Mapping[str, Any]
) -> dict[str, tuple[str, TensorEntry]]:
    """The tensors that the file lacks: by its own name for each, the canonical name and what it declares."""
    entries = base.container.tensors
    placeholders = {name: own for own, name in names.items() if name and entries[own].nbytes == 0}
    covered = {
        member for own, name in names.items() if name and entries[own].nbytes for member in members(name)
    }
    for name, weight in base.weights.items():
        own = weight.entry.name
        if own in names and weight.entry.nbytes and not (name == HEAD and names[own] == EMBEDDING):
            covered.add(name)
    if is_tied(weights):
        covered.add(HEAD)
    added: dict[str, tuple[str, TensorEntry]] = {}
    for name in weights:
        if name in covered or _has_no_place(base, name, weights, settings):
            continue
        own, canonical = (placeholders[name], name) if name in placeholders else own_name(base, name)
        together = parts_of(base, canonical)
        parts = [weights[member] for member in together if member in weights]
        if len(parts) < len(together):
            raise UnsupportedError(
                "is part of a fused tensor, and other parts are missing for good",
                file=base.container.path,
                where=f"tensor {name}",
                remedy="export the model again",
            )
        dims = (sum(part.dims[0] for part in parts), *parts[0].dims[1:])
        added[own] = canonical, TensorEntry(own, "F32", dims, 4 * math.prod(dims))
        covered.update(together)
    return added
