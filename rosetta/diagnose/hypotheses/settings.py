"""Settings of which no more is to be known than a right value: the reference's or, against a recorded run that states
none, one that models are published with (`config.*`, the rows of the table of settings)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.setting_proposals import believed_values, setting_proposal
from rosetta.errors import RosettaError
from rosetta.settings_table import SETTINGS, Shows

ROWS = [row for row in SETTINGS.values() if row.kind is not None and not row.own_hypothesis]


def propose(fault: Fault) -> Iterator[Proposal]:
    """The reference's value of every such setting that differs, and the published ones where it states none."""
    yield from believed_values(fault, *(row.key for row in ROWS))
    if not fault.settings_unknown:
        return
    for row in ROWS:
        if row.published and row.key in fault.keys:
            own = fault.subject.model.config[row.key]
            yield from (
                setting_proposal(fault, row.key, own, value) for value in row.published if value != own.value
            )
        elif row.value == "flag" and row.shows is Shows.ANYWHERE:
            yield from _turned(fault, row.key)


def _turned(fault: Fault, key: str) -> Iterator[Proposal]:
    """The other value of a flag, where the stage is another operation with it, or one of other stages."""
    model = fault.subject.model
    own = model.config.get(key)
    if own is None or not isinstance(own.value, bool):  # else it is of each layer
        return
    try:
        turned = model.repaired({key: not own.value}).graph
    except RosettaError:
        return
    both = ((model.graph.get(node.name), turned.get(node.name)) for node in fault.stages)
    if any(a and b and (a.op, a.inputs) != (b.op, b.inputs) for a, b in both):
        yield setting_proposal(fault, key, own, not own.value)
