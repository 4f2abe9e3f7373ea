"""Q or K rows in the other rotary order: one tensor's (`layout.rope_order`), or all of an `.apr`, whose
`rope_type` is then wrong (`config.rope_type`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rosetta.architectures import INTERLEAVED, SPLIT_HALF
from rosetta.diagnose.advice import config_file
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, resembles
from rosetta.finding_kind import FindingKind
from rosetta.model import Model, Patch
from rosetta.names import LAYER
from rosetta.row_order import RowOrder
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "layout.rope_order",
        means="Rows of q or k lie in the other rotary order: interleaved for split-half, or the reverse.",
        why="llama.cpp's converter permutes the rows of q and k of llama models, and an exporter permutes one of them, "
        "or all but those of some layers, or permutes them twice.",
        repair="The rows are read in the other order. Permute them on export, or leave that out.",
        whole=True,
    ),
)

ROTARY = ("attn_q", "attn_k", "attn_q_norm", "attn_k_norm")
NAMES = {INTERLEAVED: "interleaved", SPLIT_HALF: "split-half"}


def propose(fault: Fault) -> Iterator[Proposal]:
    """Each accused rotary weight in the other order; the file's rope type where all of them call for it."""
    for suspect, weight in fault.accused_weights():
        architecture = suspect.model.architecture
        if architecture.rope is None or not _is_rotary(weight) or suspect.model.mismatch(weight.name):
            continue
        declared = suspect.model["rope.type"]
        other_order = SPLIT_HALF if declared == INTERLEAVED else INTERLEAVED
        container, stated = suspect.model.container, suspect.model.config["rope.type"].key
        said = container.kind == "gguf" and stated in container.metadata
        if said and _all_in_other_order(fault, suspect, other_order):
            yield _by_key(suspect, str(stated), declared, other_order)
            continue
        if container.kind == "apr" and _all_in_other_order(fault, suspect, other_order):
            spelled = stated or "rope_type"
            yield Proposal(
                kind="config.rope_type",
                role=suspect.role,
                repair=Repair(overrides={"rope.type": other_order}),
                key="rope.type",
                declared=None if suspect.model.config["rope.type"].defaulted else declared,
                actual=other_order,
                message=f"rope.type says {declared} ({NAMES[declared]}), all rows of q and k lie in order "
                f"{other_order} ({NAMES[other_order]})",
                recommendation=f"write {spelled} {other_order}, or store the rows of q and k {NAMES[declared]}",
            )
            continue
        yield Proposal(
            kind="layout.rope_order",
            role=suspect.role,
            repair=Repair(patches={weight.name: _turned(suspect.model)}),
            tensor=weight.name,
            declared=NAMES[declared],
            actual=NAMES[other_order],
            message=f"{weight.name} has its rows in {NAMES[other_order]} rotary order, {NAMES[declared]} is expected",
            recommendation=f"store the rows of {weight.entry.name} {NAMES[declared]}: "
            + ("permute" if declared == INTERLEAVED else "do not permute")
            + " them on export",
        )


def _by_key(suspect: Suspect, stated: str, declared: int, other_order: int) -> Proposal:
    """A GGUF that states a key for which llama.cpp turns pairs of the other order, and whose rows lie as without it."""
    key = stated.removeprefix(f"{suspect.model.container.architecture}.")
    return Proposal(
        kind="config.rope_type",
        role=suspect.role,
        repair=Repair(overrides={"rope.type": other_order}),
        key=key,
        declared=NAMES[declared],
        actual=NAMES[other_order],
        message=f"{key} is stated, with which llama.cpp turns {NAMES[declared]} pairs, and all rows of q and k lie "
        f"{NAMES[other_order]}",
        recommendation=f"take {stated} out of {config_file(suspect.model.container)}, or store the rows of q and k "
        f"{NAMES[declared]}",
    )


def _turned(model: Model) -> Patch:
    def patch(found: Weight | None) -> Weight | None:
        return None if found is None else in_other_order(model, found)

    return patch


def in_other_order(model: Model, weight: Weight) -> Weight:
    """The weight read as if its file kept it in the other rotary order."""
    if weight.order is not None:
        return replace(weight, order=None)
    canonical = model.architecture.rope
    source = SPLIT_HALF if canonical == INTERLEAVED else INTERLEAVED
    found = LAYER.match(weight.name)
    of_layer = model.settings_of(None if found is None else int(found[1]))
    order = RowOrder(of_layer["attention.key_length"], of_layer["rope.dimension_count"], source)
    return replace(weight, order=order)


def _is_rotary(weight: Weight) -> bool:
    found = LAYER.match(weight.name)
    return found is not None and found[2].rpartition(".")[0] in ROTARY


def _all_in_other_order(fault: Fault, suspect: Suspect, order: int) -> bool:
    """Whether the other order repairs every weight of q and k that it touches."""
    if fault.recorded:
        repair = Repair(overrides={"rope.type": order})
        layers = range(suspect.model.block_count)
        return all(fault.agrees_at(repair, f"layers.{layer}.{op}") for layer in layers for op in ("q", "k"))
    other = suspect.model.repaired({"rope.type": order})
    pairs = [
        (weight, suspect.other.weights[name])
        for name, weight in other.weights.items()
        if _is_rotary(weight) and name.endswith(".weight") and name in suspect.other.weights
    ]
    return bool(pairs) and all(resembles(a, b) for a, b in pairs)
