"""Another activation in the feed-forward network (`config.activation`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.settings_hypothesis import setting_hypothesis, setting_proposal
from rosetta.ops.pointwise import ACTIVATIONS

known = setting_hypothesis("config.activation", "activation")


def propose(fault: Fault) -> Iterator[Proposal]:
    """The reference's activation; of a recorded run that names none, every other one."""
    yield from known(fault)
    if fault.settings_unknown and "activation" in fault.keys:
        own = fault.subject.model.config["activation"]
        for name in ACTIVATIONS:
            if name != own.value:
                yield setting_proposal(fault, "config.activation", "activation", own, name)
