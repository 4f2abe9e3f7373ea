"""RMSNorm for LayerNorm or the reverse (`config.norm_type`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.settings_hypothesis import setting_hypothesis, setting_proposal

KIND, KEY = "config.norm_type", "norm_type"
known = setting_hypothesis(KIND, KEY)


def propose(fault: Fault) -> Iterator[Proposal]:
    """The reference's norm; of a recorded run that names none, the other one."""
    yield from known(fault)
    if fault.settings_unknown and KEY in fault.keys:
        own = fault.subject.model.config[KEY]
        yield setting_proposal(fault, KIND, KEY, own, "layer" if own.value == "rms" else "rms")
