"""Experts that a file holds and does not count (`config.experts_used`): it is read as a model without any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rosetta.diagnose.advice import spelling
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.setting_proposals import setting_proposal
from rosetta.errors import RosettaError
from rosetta.setting_values import Value

KEY, USED = "expert_count", "expert_used_count"


def propose(fault: Fault) -> Iterator[Proposal]:
    """The other side's number of experts, where a side states none and tensors are read once it does."""
    if fault.recorded:
        return
    for suspect in (fault.subject, fault.reference):
        right, model = suspect.other.config.get(KEY), suspect.model
        if right is None or not right.value or KEY in model.config or not model.unread:
            continue
        asked = [key for key in (KEY, USED) if key not in {*model.config, *model.container.settings}]
        counts = {key: suspect.other.config[key].value for key in asked if key in suspect.other.config}
        try:
            counted = model.repaired(counts)
        except RosettaError:
            continue
        if len(counted.unread) < len(model.unread):
            own = Value(0, None, "the file does not say")
            found = setting_proposal(fault, KEY, own, right.value, suspect.role)
            advice = found.recommendation
            if USED in counts:
                advice += f"; write {spelling(model.container, USED)} {counts[USED]} as well"
            yield replace(found, repair=Repair(overrides=counts), recommendation=advice)
