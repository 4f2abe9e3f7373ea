"""Another window on the tokens that are seen (`config.sliding_window`), read off a recorded run that states none; one
that other layers have (`config.layer_pattern`), where one side has no list of them: all have it, or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rosetta.compare.settings import has_place_for_window
from rosetta.diagnose.advice import config_file, write_value
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.setting_proposals import setting_proposal
from rosetta.errors import RosettaError
from rosetta.model import Model
from rosetta.setting_values import PerLayer, Value

KEY, PATTERN = "attention.sliding_window", "attention.sliding_window_pattern"


def propose(fault: Fault) -> Iterator[Proposal]:
    """A window of as many tokens as the recorded scores see; the reference's window in the reference's layers."""
    yield from _of_layers(fault)
    yield from _seen(fault)


def _of_layers(fault: Fault) -> Iterator[Proposal]:
    """The reference's window and layers, where the subject would not have it in these if it stated the window alone."""
    own, believed = fault.subject.model.config, fault.reference.model.config
    stated = KEY in fault.keys and KEY in own and KEY in believed
    if fault.recorded or not stated or (PATTERN in own and PATTERN in believed):
        return
    window = believed[KEY].value
    layers = _layers(fault.reference.model)
    try:
        with_window = fault.subject.model.repaired({KEY: window})
    except RosettaError:
        return
    if not any(layers) or _layers(with_window) == layers:
        return
    has = own.get(PATTERN) or Value(PerLayer(_layers(fault.subject.model)), None, "as the window is read")
    right = believed[PATTERN].value if PATTERN in believed else PerLayer(layers)
    repair = Repair(overrides={KEY: window, PATTERN: right})
    found = replace(setting_proposal(fault, PATTERN, has, right), repair=repair)
    if PATTERN not in believed:
        file = config_file(fault.subject.model.container)
        found = replace(found, recommendation=f"name all layers sliding_attention in layer_types of {file}")
    elif not has_place_for_window(fault.subject.model):
        sides = fault.subject.model, fault.reference.model
        found = replace(found, recommendation=write_value(*sides, KEY, own[KEY], window))
    yield found


def _layers(model: Model) -> list[bool]:
    """Which layers have a window."""
    settings = (model.settings_of(layer) for layer in range(model.block_count))
    return [bool(c[KEY]) and bool(c.get(PATTERN, True)) for c in settings]


def _seen(fault: Fault) -> Iterator[Proposal]:
    """A window of as many tokens as the recorded scores see."""
    scores = fault.recorded_value  # [N, T, T]
    if not fault.settings_unknown or KEY not in fault.node.keys or scores is None or scores.dim() != 3:
        return
    seen = int((scores > 0).sum(-1).max())
    yield setting_proposal(
        fault, KEY, fault.subject.model.config[KEY], seen if seen < scores.shape[-1] else 0
    )
