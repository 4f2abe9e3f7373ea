"""What all hypotheses about settings share: the reference's value in place of the subject's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rosetta.compare.pairing import Role
from rosetta.compare.settings import plain
from rosetta.config import Value
from rosetta.diagnose.advice import shown_apart, write_value
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect
from rosetta.diagnose.patches import instead
from rosetta.errors import RosettaError
from rosetta.model import Model
from rosetta.settings_table import SETTINGS, Shows
from rosetta.weight import Weight

LISTED = 3  # names of weights, of how many soever there are


def believed_values(fault: Fault, *keys: str) -> Iterator[Proposal]:
    """Proposals that the subject have the reference's value of a key, where they differ and the stage may show it; that
    the reference have the subject's, where it denies itself."""
    for key, (own, believed) in fault.changed_settings().items():
        if key not in keys or not _may_show(fault, key):
            continue
        stated = fault.reference.model.config[key]
        if _is_denied_by_tensors(fault, key, own.value):
            yield setting_proposal(fault, key, stated, own.value, "reference")
            continue
        yield _as_stated(fault, key, own, believed)
        if _denies_itself(fault):
            yield setting_proposal(fault, key, stated, own.value, "reference")


def _as_stated(fault: Fault, key: str, own: Value, believed: Any) -> Proposal:
    """The proposal that a key have the reference's value; where it follows from one of its kind that the file states,
    and that is wrong, that this one have it (llama.cpp turns layers with a window with the base of the others)."""
    kind, subject, reference = SETTINGS[key].kind, fault.subject.model, fault.reference.model
    for source, stated in subject.config.items() if own.defaulted else ():
        alike = source in SETTINGS and SETTINGS[source].kind is kind and source in reference.config
        if source == key or stated.defaulted or not alike:
            continue
        right = reference.config[source].value
        try:
            follows = (
                stated.value != right and subject.repaired({source: right}).config[key].value == believed
            )
        except RosettaError:
            continue
        if follows:
            return setting_proposal(fault, source, stated, right)
    return setting_proposal(fault, key, own, believed)


def _is_denied_by_tensors(fault: Fault, key: str, right: Any) -> bool:
    """Whether the believed file's tensors, here or elsewhere, are others than its settings ask for, and go better with
    the subject's value of a key; the subject's own are as its settings ask."""
    believed = fault.reference.model
    denied = _denied(believed)
    if not denied or _denied(fault.subject.model):
        return False
    try:
        return len(_denied(believed.repaired({key: right}))) < len(denied)
    except RosettaError:  # its other settings do not go with the value
        return False


def _denied(model: Model) -> set[str]:
    """Weights that a model's settings ask for, and that its file lacks or has with other dims."""
    missing = {name for node in model.graph for name in node.required if name not in model.weights}
    return missing | {name for name in model.weights if model.mismatch(name)}


def _denies_itself(fault: Fault) -> bool:
    """Whether the believed file's settings do not go with its own tensors, or not with each other."""
    believed = fault.reference.model
    return "reference" in fault.outcome.reasons or any(believed.contradiction(name) for name in fault.names())


def _may_show(fault: Fault, key: str) -> bool:
    """Whether another value of a setting may show at the stage."""
    match SETTINGS[key].shows:
        case Shows.ANYWHERE:
            return True
        case Shows.WHERE_READ:
            ordered_by = fault.subject.model.architecture.halves_with  # the rows of queries and keys
            return key in fault.keys or key == ordered_by
        case Shows.IN_DIMS:
            models = fault.subject.model, fault.reference.model
            unlike = fault.other_node is not None and fault.other_node.inputs != fault.node.inputs
            return unlike or any(model.mismatch(name) for model in models for name in fault.names())


def _following(suspect: Suspect, key: str) -> dict[str, Any]:
    """What follows from a setting and is repaired with it: the scale of latent attention, of which YaRN is a part."""
    configs = suspect.model.config, suspect.other.config
    own, other = (config.get("attention.scale") for config in configs)
    if key != "rope.scaling" or own is None or other is None or not (own.defaulted and other.defaulted):
        return {}
    return {} if own.value == other.value else {"attention.scale": other.value}


def setting_proposal(fault: Fault, key: str, own: Value, right: Any, role: Role = "subject") -> Proposal:
    """The proposal that a key of one side have another value.

    Args:
        fault: the faulty stage.
        key: of a setting that can be wrong.
        own: the value that the side has.
        right: the value to put in its place.
        role: the side.
    """
    kind = SETTINGS[key].kind
    assert kind is not None
    said, wanted = shown_apart(own.value, right)
    suspect = fault.subject if role == "subject" else fault.reference
    other = "the reference" if role == "subject" else "the other side"
    message = f"{key} is {said}{f' ({own.note})' if own.defaulted else ''}, {other} computes with {wanted}"
    advice = write_value(suspect.model, suspect.other, key, own, right)
    left_out = _left_out(suspect, key, right)
    if left_out:
        named = ", ".join([*left_out][:LISTED]) + (" …" if len(left_out) > LISTED else "")
        message += f", by {len(left_out)} weights that this file lacks: {named}"
        advice += f", and export {named}"
    return Proposal(
        kind=kind.id,
        role=role,
        repair=Repair(
            overrides={key: right, **_following(suspect, key)},
            patches={name: instead(weight) for name, weight in left_out.items()},
        ),
        key=key,
        declared=None if own.defaulted else plain(own.value),
        actual=plain(right),
        message=message,
        recommendation=advice,
        from_reference=f"{len(left_out)} weights" if left_out else None,
    )


def _left_out(suspect: Suspect, key: str, right: Any) -> dict[str, Weight]:
    """The other side's weights that a file lacks and that a right value of a key asks for, as its own does not: of a
    shared expert that was left out together with what counts it."""
    row = SETTINGS[key]
    if row.shows is not Shows.ANYWHERE or row.value not in ("count", "flag"):
        return {}
    try:
        repaired = suspect.model.repaired({key: right})
    except RosettaError:
        return {}
    asked, theirs = {name for node in suspect.model.graph for name in node.required}, suspect.other.weights
    return {
        name: theirs[name]
        for node in repaired.graph
        for name in node.required
        if name not in asked and name not in repaired.weights and name in theirs
    }
