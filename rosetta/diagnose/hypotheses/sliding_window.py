"""Another window on the tokens that are seen (`config.sliding_window`)."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.settings_hypothesis import setting_hypothesis, setting_proposal

KIND, KEY = "config.sliding_window", "attention.sliding_window"
known = setting_hypothesis(KIND, KEY)


def propose(fault: Fault) -> Iterator[Proposal]:
    """The reference's window; of a recorded run that names none, as many tokens as its scores see."""
    yield from known(fault)
    scores = fault.recorded_value  # [N, T, T]
    if not fault.settings_unknown or KEY not in fault.keys or scores is None or scores.dim() != 3:
        return
    seen = int((scores > 0).sum(-1).max())
    yield setting_proposal(
        fault, KIND, KEY, fault.subject.model.config[KEY], seen if seen < scores.shape[-1] else 0
    )
