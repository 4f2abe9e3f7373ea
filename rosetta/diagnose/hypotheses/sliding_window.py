"""Another window on the tokens that are seen (`config.sliding_window`), read off a recorded run that states none."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.setting_proposals import setting_proposal

KEY = "attention.sliding_window"


def propose(fault: Fault) -> Iterator[Proposal]:
    """A window of as many tokens as the recorded scores see."""
    scores = fault.recorded_value  # [N, T, T]
    if not fault.settings_unknown or KEY not in fault.node.keys or scores is None or scores.dim() != 3:
        return
    seen = int((scores > 0).sum(-1).max())
    yield setting_proposal(
        fault, KEY, fault.subject.model.config[KEY], seen if seen < scores.shape[-1] else 0
    )
