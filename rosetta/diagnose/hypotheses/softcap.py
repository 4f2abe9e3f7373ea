"""Another bound on the logits (`config.softcap`), read off an observed run whose settings may be its own."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.setting_proposals import setting_proposal

KEY = "final_logit_softcapping"
STEPS = 60  # of a bisection: what is left is below float64's last bit
DIGITS = 4  # significant ones that a cap is published with


def propose(fault: Fault) -> Iterator[Proposal]:
    """The cap c for which c·tanh(x/c) of the largest logit is what was observed."""
    if not fault.settings_unknown or KEY not in fault.keys:
        return
    bare, truth = fault.computed(Repair(overrides={KEY: 0.0})), fault.recorded_value
    if bare is None or truth is None or bare.shape != truth.shape:
        return
    place = int(bare.abs().argmax())
    x, y = abs(float(bare.flatten()[place])), abs(float(truth.flatten()[place]))
    if 0 < y < x:
        yield setting_proposal(fault, KEY, fault.subject.model.config[KEY], float(f"{_cap(x, y):.{DIGITS}g}"))


def _cap(x: float, y: float) -> float:
    """c of y = c·tanh(x/c): y / x falls as x / c grows.

    >>> round(_cap(10.0, 5.0 * math.tanh(2.0)), 6)
    5.0
    """
    low, high = 1e-6, 1e6
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if math.tanh(middle) / middle > y / x else (low, middle)
    return x / low
