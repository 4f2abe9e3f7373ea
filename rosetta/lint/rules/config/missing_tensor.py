"""C222: the architecture computes with a tensor that is not there."""

import re
from collections.abc import Iterator

from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject
from rosetta.model import Model
from rosetta.names import COMPUTED, FOREIGN_LAYER, LAYER

RULE = Rule(
    "C222",
    "missing-tensor",
    "error",
    what="A tensor is missing that the architecture computes with.",
    why="A shard was left out, a name was not in the converter's table and its tensor dropped, or a merge lost it. "
    "llama.cpp refuses the file; transformers goes on with random numbers.",
    fix="Convert the model again, and look for what the converter says of names that it does not know.",
    consequence=True,
)
_SAID_ELSEWHERE = ("output.weight",)  # C218 says where a head must be


def faults(subject: Subject) -> Iterator[Fault]:
    """The first missing tensor, and how many are."""
    if subject.folder is not None and not subject.tensors:
        yield Fault("its files hold no tensor at all")
    model = subject.model
    if model is None or not model.architecture.runs:
        return
    nameless = _layers_of_the_unknown(model)
    missing = [
        name
        for name in _lacking(model)
        if name not in _SAID_ELSEWHERE
        and _is_of_a_layer(subject, name)
        and _layer(LAYER, name) not in nameless
    ]
    if missing:
        more = f"; {len(missing) - 1:,} more are missing as well" if len(missing) > 1 else ""
        yield Fault(
            f"is missing, and {model.architecture.name} computes with it{more}",
            tensor=_named(subject, missing[0]),
        )


def _lacking(model: Model) -> Iterator[str]:
    """Tensors that stages cannot do without and that the file has in no form."""
    empty = {tensor for tensor, entry in model.container.tensors.items() if not entry.nbytes}
    if empty:  # F117 says it
        return
    for name in dict.fromkeys(name for node in model.graph for name in node.required):
        if name not in model.weights:
            yield name
    held = {found[2] for name in model.weights if (found := LAYER.match(name)) is not None}
    for name in dict.fromkeys(name for node in model.graph for name in node.optional):
        # What stages can do without, and other layers have: a bias that was dropped.
        found = LAYER.match(name)
        expected = (
            name in model.architecture.always
            if found is None
            else found[2] in held | model.architecture.always
        )
        if expected and name not in model.weights:
            yield name


def _layers_of_the_unknown(model: Model) -> set[int | None]:
    """Layers, None for outside of them, with tensors whose names nothing knows: one of them may be what is missing."""
    names = (name for name in model.unknown if not name.endswith(COMPUTED))
    return {_layer(FOREIGN_LAYER, name) for name in names}


def _layer(pattern: re.Pattern[str], name: str) -> int | None:
    found = pattern.search(name)
    return None if found is None else int(found[1])


def _is_of_a_layer(subject: Subject, name: str) -> bool:
    """Whether a tensor is of no layer, or of one of which there are any: C208 says which layers there are not."""
    found = LAYER.match(name)
    return found is None or int(found[1]) in subject.layers


def _named(subject: Subject, canonical: str) -> str:
    """A tensor as the file would call it: as it calls that of another layer, else its canonical name."""
    found = LAYER.match(canonical)
    if found is None:
        return canonical
    for tensor in subject.by_stem(found[2]):
        if f".{tensor.layer}." in tensor.name:
            return tensor.name.replace(f".{tensor.layer}.", f".{found[1]}.", 1)
    return canonical
