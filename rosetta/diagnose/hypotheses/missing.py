"""A tensor that one side lacks (`value.missing`): a bias, a norm, the positions, a projection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rosetta.diagnose.hypotheses.norm_factor import numbers
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, resembles
from rosetta.diagnose.patches import instead
from rosetta.diagnose.tensor_names import own_name, stacked
from rosetta.finding_kind import FindingKind
from rosetta.model import Model, Patch
from rosetta.names import LAYER, canonical_names
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "value.missing",
        means="A tensor that the other side has is missing.",
        why="A role is unknown to the exporter (the biases of q, k and v, the norms of q and k, an untied head), its "
        "name was cut short or given a prefix, or an index that must be sorted is not.",
        repair="The tensor is taken from the reference. Export it under the name that the file's readers look for.",
        order=80,
        title="missing weight",
        together="are not whole, but {actual}: a process saved what it held itself",
        of_file="gather the weights of the {side} side before they are saved: each process of a distributed training "
        "holds some of them, or a part of each (FSDP: a full state dict; ZeRO stage 3: "
        "stage3_gather_16bit_weights_on_model_save)",
        alike=True,
    ),
)

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
NOTHING = "without any values"

TAKES_FROM_REFERENCE = True


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's copy of each tensor of the stage that a side lacks."""
    for name in fault.names():
        for suspect in (fault.subject, fault.reference):
            other = suspect.other.weights.get(name)
            if name in suspect.model.weights or other is None or lacks_layer(suspect, name):
                continue
            if suspect.role == "reference" and name in numbers(fault):
                continue  # it has a setting instead
            own, lost = own_name(suspect.model, name, other), _stack(suspect, other)
            empty = empty_tensors(suspect.model).get(name)
            tensor = name if len(lost) == 1 else stacked(name)
            dims = f"{list(other.dims)}"
            holds = f"it with dims {dims}" if len(lost) == 1 else f"{len(lost)} of {dims}"
            lacks = "is missing" if empty is None else f"is empty, {empty} has dims [0] and no values"
            yield Proposal(
                kind="value.missing",
                role=suspect.role,
                repair=Repair(patches=in_place_of(suspect, lost)),
                tensor=tensor,
                actual=None if empty is None else NOTHING,
                message=f"{tensor} {lacks}, the other side has {holds}",
                recommendation=(
                    f"export {own} into {suspect.model.container.path}"
                    + ("" if own == other.entry.name else f" (the other file calls it {other.entry.name})")
                )
                if empty is None
                else f"save {empty} again, gathered: under ZeRO stage 3 a process holds none of it",
                from_reference=f"all {sum(weight.count for weight in lost)} weights",
            )


def in_place_of(suspect: Suspect, weights: Sequence[Weight]) -> dict[str, Patch]:
    """Patches that put weights where a side has none, and in the head's place too where an embedding is both."""
    places = {weight.name: weight for weight in weights}
    embedding = places.get(EMBEDDING)
    ties = suspect.model.container.kind != "huggingface" or suspect.model["tied_embeddings"]
    if embedding is not None and ties and HEAD not in suspect.model.weights:
        words, head = (suspect.other.weights.get(name) for name in (EMBEDDING, HEAD))
        if words is not None and head is not None and (words.entry is head.entry or resembles(words, head)):
            places[HEAD] = replace(embedding, name=HEAD)
    return {name: instead(weight) for name, weight in places.items()}


def _stack(suspect: Suspect, other: Weight) -> list[Weight]:
    """The other side's copies of what a side lacks with a weight: all of one tensor, of which a GGUF file has one for
    all experts."""
    whole = stacked(other.name)
    if suspect.model.container.kind != "gguf" or whole == other.name:
        return [other]
    of_stack = (weight for name, weight in suspect.other.weights.items() if stacked(name) == whole)
    return [weight for weight in of_stack if weight.name not in suspect.model.weights]


def empty_tensors(model: Model) -> dict[str, str]:
    """The file's own names of tensors that it stores without any values, by canonical name."""
    empty = [own for own, entry in model.container.tensors.items() if 0 in entry.dims]
    names = canonical_names(empty, model.architecture, model.block_count) if empty else {}
    return {canonical: own for own, canonical in names.items() if canonical is not None}


def lacks_layer(suspect: Suspect, name: str) -> bool:
    """Whether the layer is absent as a whole: then its tensors are accused of nothing."""
    found = LAYER.match(name)
    return found is not None and not any(
        other.startswith(f"blk.{found[1]}.")
        for other in (*suspect.model.weights, *empty_tensors(suspect.model))
    )
