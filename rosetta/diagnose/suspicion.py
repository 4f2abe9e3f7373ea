"""What a fault is most likely about where no repair was proven: as far as the files themselves say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rosetta.compare.pairing import Role
from rosetta.diagnose.both_nonfinite import KIND, holds_none_on_both, remedy_of, said_of
from rosetta.diagnose.hypotheses.corrupted import holds_the_same_values
from rosetta.diagnose.hypotheses.missing import lacks_layer
from rosetta.diagnose.hypothesis import CLOSE, Fault, impossible, largest
from rosetta.diagnose.vocabulary_rows import export_resized, lacks, rows_lacking
from rosetta.settings_table import SETTINGS, Shows
from rosetta.weight import Weight

SIZES = {
    row.key: row.kind for row in SETTINGS.values() if row.shows is Shows.IN_DIMS and row.kind is not None
}

TWO_SIZES = "give two files that were made from one model: the tensors of each are as its own config says"


@dataclass(frozen=True)
class Suspicion:
    """A tensor, a key, or neither: then the stage is all that is known.

    Args:
        kind: of the finding.
        why: a sentence.
        tensor, key: what is suspected.
        right: the value of the key to go on with: what is derived from a wrong size is accused of nothing.
        role: which side is accused; None where the stage does not say.
        remedy: what to do, where more is known than that something is wrong.
    """

    kind: str
    why: str
    tensor: str | None = None
    key: str | None = None
    right: Any = None
    role: Role | None = None
    remedy: str | None = None


def suspicion(fault: Fault) -> Suspicion:
    """What the files say of a fault of which no cause was proven."""
    found = _by_contents(fault) if fault.recorded else _of_files(fault)
    if found is not None:
        return found
    reasons = list(fault.outcome.reasons.values())
    why = str(reasons[0]) if reasons else "no hypothesis explains the difference of this stage"
    tensors = [*fault.outcome.differing, *(reason.tensor for reason in reasons if reason.tensor)]
    if fault.recorded:
        tensors += [name for name in fault.names() if name in fault.subject.model.weights]
    if tensors:
        return Suspicion("unexplained", why, tensors[0])
    changed = fault.changed_settings()
    key = next((key for key in fault.keys if key in changed), None)
    return Suspicion("unexplained", why, key=key)


def _of_files(fault: Fault) -> Suspicion | None:
    return _by_rows(fault) or _by_dims(fault) or _by_sizes(fault) or _on_both(fault)


def _by_rows(fault: Fault) -> Suspicion | None:
    """Rows of the embedding or the head that one side lacks: tokens were added to the other."""
    for suspect in (fault.subject, fault.reference):
        for name in fault.names():
            rows = rows_lacking(suspect.model, suspect.other, name)
            if rows is None:
                continue
            weights = suspect.model.weights
            tied = weights[name].entry is weights["token_embd.weight"].entry  # one table is said once
            said = "token_embd.weight" if tied else name
            remedy = export_resized(weights[said].entry.name)
            return Suspicion("value.missing", lacks(said, rows), said, role=suspect.role, remedy=remedy)
    return None


def _by_dims(fault: Fault) -> Suspicion | None:
    """Dims that are the config's reversed, though another fault keeps the proof away; a size that no tensor has."""
    changed = fault.changed_settings()
    for suspect in (fault.subject, fault.reference):
        for name in fault.names():
            wanted = suspect.model.mismatch(name)
            if wanted is None:
                continue
            dims = suspect.model.weights[name].dims
            other = suspect.other.weights.get(name)
            if other is not None and _mixed(suspect.model.weights[name], other):
                why = f"{name} holds the other side's values, each once, in another order, under dims {list(dims)} for "
                why += f"{list(wanted)}: parts were joined along the wrong axis, or it was reshaped"
                return Suspicion("layout.reordered", why, name, role=suspect.role)
            if dims == wanted[::-1] != wanted:
                why = f"{name} needs transpose (GGML convention): dims reversed"
                return Suspicion("layout.dims_swapped", why, name)
            key = next((key for key in SIZES if key in changed and changed[key][1] in dims), None)
            if key is not None and suspect.role == "subject":
                own, believed = changed[key]
                why = f"{key} is {own.value}, the reference has {believed}, and so has {name}: {list(dims)}"
                return Suspicion(SIZES[key].id, why, key=key, right=believed)
    return None


def _by_sizes(fault: Fault) -> Suspicion | None:
    """A size that each file's tensors have as its own config says: two models, one of which may have been pruned."""
    changed = fault.changed_settings()
    for name in fault.names():
        own, other = (side.model.weights.get(name) for side in (fault.subject, fault.reference))
        if own is None or other is None or own.dims == other.dims:
            continue
        if any(side.model.mismatch(name) is not None for side in (fault.subject, fault.reference)):
            continue
        for key, kind in SIZES.items():
            if key in changed and changed[key][0].value in own.dims and changed[key][1] in other.dims:
                why = f"{key} is {changed[key][0].value}, and so is {name}, {list(own.dims)}; the reference's is "
                why += f"{changed[key][1]}, and so is its tensor, {list(other.dims)}: they are models of two sizes"
                return Suspicion(kind.id, why, key=key, remedy=TWO_SIZES)
    return None


def _mixed(weight: Weight, other: Weight) -> bool:
    """Whether a weight of other dims holds the other side's values in an order that no other reading of it mends."""
    if not holds_the_same_values(weight, other):
        return False
    turned, theirs = weight.values().T.flatten().double(), other.values().flatten().double()
    return float(turned @ theirs) < CLOSE * float(turned.norm() * theirs.norm())


def _on_both(fault: Fault) -> Suspicion | None:
    """A weight that holds NaN or Inf on both sides: no repair takes it from the other."""
    for name in fault.outcome.differing:
        if holds_none_on_both(name, fault.subject.model, fault.reference.model):
            own = fault.subject.model.weights[name].entry.name
            return Suspicion(KIND, said_of(name), name, remedy=remedy_of(own))
    return None


def _by_contents(fault: Fault) -> Suspicion | None:
    """What the subject's own weights say of a fault that a recorded run cannot repair."""
    for reason in fault.outcome.reasons.values():
        if reason.tensor is None or reason.tensor in fault.subject.model.weights:
            continue
        if lacks_layer(fault.subject, reason.tensor):
            why = f"block_count counts layer {fault.layer}, the file holds no tensor of it"
            return Suspicion("config.layer_count", why, key="block_count")
        return Suspicion("value.missing", str(reason), reason.tensor)
    for name in fault.names():
        weight = fault.subject.model.weights.get(name)
        absurd = impossible(weight) if weight is not None else None
        if weight is not None and absurd is not None:
            kind = {0.0: "value.zeroed", math.inf: "value.nonfinite"}.get(largest(weight), "unexplained")
            return Suspicion(kind, f"{name}: {absurd}", name)
    return None
