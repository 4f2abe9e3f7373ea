"""Another number of layers: the config miscounts them, or a layer is absent as a whole (`config.layer_count`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from rosetta.diagnose.advice import config_file
from rosetta.diagnose.hypotheses.missing import empty_tensors
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair, Suspect, looks_like, resembles
from rosetta.diagnose.own_form import would_say
from rosetta.diagnose.patches import instead
from rosetta.diagnose.setting_proposals import setting_proposal
from rosetta.errors import RosettaError
from rosetta.model import Model, Patch
from rosetta.names import FOREIGN_LAYER
from rosetta.weight import Weight

KEY, PREDICTORS = "block_count", "nextn_predict_layers"


def propose(fault: Fault) -> Iterator[Proposal]:
    """The number of layers that the believed file has tensors of, where it declares another; else the reference's
    number, each layer that the file lacks taken from the reference."""
    yield from _believed(fault)
    yield from _run_in_part(fault)
    subject = fault.subject
    own, believed = subject.model.block_count, subject.other.block_count
    stored = {**subject.model.weights, **empty_tensors(subject.model)}  # what is empty is no layer left out
    held = {layer for layer in range(max(own, believed)) if _layer(stored, layer)}
    absent = [layer for layer in range(believed) if layer not in held | _named_otherwise(subject.model)]
    outside = fault.layer is None and not any(subject.model.mismatch(name) for name in fault.names())
    if outside or (fault.recorded and absent) or not held:  # of no layer at all a count says nothing
        return
    if own != believed and not absent:
        yield _proposal(subject, own, believed, {}, None)
    elif fault.layer in absent and believed - len(absent) >= own:
        yield _proposal(subject, own, believed, _taken(subject, absent), _in_words(absent))
    elif fault.layer in absent:
        yield _proposal(subject, own, believed, _taken(subject, absent), _in_words(absent), held=len(held))
    if own < believed and fault.layer is not None and fault.layer < own and not fault.recorded:
        yield from _closed_up(fault, subject, own, believed)


def _run_in_part(fault: Fault) -> Iterator[Proposal]:
    """A recorded run ends with an earlier layer than the file: it has no stage of the last ones."""
    observed, own = fault.pair.observed, fault.subject.model.block_count
    if observed is None or fault.layer is not None:
        return
    shown = {node.layer for node in fault.pair.subject.graph if observed.offers(node.name)}
    count = next((n for n in range(own, 0, -1) if n - 1 in shown), own)
    if count < own:
        yield setting_proposal(fault, KEY, fault.subject.model.config[KEY], count)


def _believed(fault: Fault) -> Iterator[Proposal]:
    """The believed file belies itself: it holds the layers that the other side has, and declares more, or fewer."""
    suspect = fault.reference
    declared, count = suspect.model.block_count, suspect.other.block_count
    apart = range(min(declared, count), max(declared, count))
    if fault.recorded or fault.layer not in apart:
        return
    if declared > count:
        holds = all(_layer(suspect.model.weights, n) for n in range(count))
        belied = holds and not any(_layer(suspect.model.weights, n) for n in apart)
    else:
        belied = _holds_more(suspect, count, apart)
    if belied:
        yield _proposal(suspect, declared, count, {}, None, held=count)


def _holds_more(suspect: Suspect, count: int, apart: range) -> bool:
    """Whether a file has just the other side's tensors of some layers that it does not count; those that predict
    further tokens, which a folder does not count either, have more."""
    try:
        counted = suspect.model.repaired({KEY: count})
    except RosettaError:
        return False
    left = {int(found[1]) for name in counted.unread if (found := FOREIGN_LAYER.search(name)) is not None}
    return not left & {*apart} and all(
        _layer(counted.weights, n) and {*_layer(counted.weights, n)} == {*_layer(suspect.other.weights, n)}
        for n in apart
    )


def _proposal(
    suspect: Suspect,
    own: int,
    right: int,
    patches: dict[str, Patch],
    taken: str | None,
    held: int | None = None,
) -> Proposal:
    container = suspect.model.container
    spelled = next(would_say(suspect.model, KEY, suspect.model.config[KEY]), KEY)
    advice = f"write {spelled} {right} into {config_file(container)}"
    said = f"{KEY} is {own}, the reference has {right} layers"
    if held is not None and held != own:
        said = f"{KEY} is {own}, the file holds {held} layers"
    predictors, counted = (container.settings.get(key) for key in (PREDICTORS, KEY))
    if predictors is not None and counted is not None and counted.value == right > own:
        said = f"{PREDICTORS} is {predictors.value}, and of the file's {right} layers {own} are left"
        advice = f"take {predictors.key} out of {config_file(container)}"
    return Proposal(
        kind="config.layer_count",
        role=suspect.role,
        repair=Repair(overrides={KEY: right}, patches=patches),
        key=KEY,
        declared=own,
        actual=right,
        message=said,
        recommendation=advice + (f", and export {taken}" if taken else ""),
        from_reference=taken,
    )


def _layer(weights: Mapping[str, object], layer: int) -> list[str]:
    return [name for name in weights if name.startswith(f"blk.{layer}.")]


def _named_otherwise(model: Model) -> set[int]:
    """Layers of which the file has tensors under names that nothing reads."""
    return {int(found[1]) for name in model.unknown if (found := FOREIGN_LAYER.search(name)) is not None}


def _in_words(layers: list[int]) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


def _taken(subject: Suspect, layers: list[int]) -> dict[str, Patch]:
    """Patches that put the reference's tensors in place of absent layers."""
    return {
        name: instead(subject.other.weights[name])
        for layer in layers
        for name in _layer(subject.other.weights, layer)
    }


def _closed_up(fault: Fault, subject: Suspect, own: int, believed: int) -> Iterator[Proposal]:
    """The file lacks layers from the faulty one on, and numbers those behind them as if they followed."""
    layer, gap = fault.layer, believed - own
    assert layer is not None
    moved: dict[str, Weight] = {}
    for target in range(layer + gap, believed):
        for name in _layer(subject.model.weights, target - gap):
            renamed = name.replace(f"blk.{target - gap}.", f"blk.{target}.", 1)
            moved[renamed] = replace(subject.model.weights[name], name=renamed)
    others = [(weight, subject.other.weights.get(name)) for name, weight in moved.items()]
    if not others or not all(b is not None and looks_like(a, b) and resembles(a, b) for a, b in others):
        return
    absent = list(range(layer, layer + gap))
    patches: dict[str, Patch] = {name: instead(weight) for name, weight in moved.items()}
    gone = _in_words(absent)
    found = _proposal(subject, own, believed, {**patches, **_taken(subject, absent)}, gone)
    yield replace(
        found,
        message=f"{found.message}: {gone} of these are left out, and those behind are numbered as if they followed",
        recommendation=f"{found.recommendation}; where layers were taken out on purpose, compare with that model",
    )
