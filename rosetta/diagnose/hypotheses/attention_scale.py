"""Another scale of the attention's products (`config.attention_scale`), read off a recorded run that states none."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.setting_proposals import setting_proposal

KEY = "attention.scale"
SMALLEST = 1e-6  # of a softmax, below which a logarithm in float32 says little


def propose(fault: Fault) -> Iterator[Proposal]:
    """The scale that fits the recorded scores."""
    if fault.settings_unknown and KEY in fault.keys and (scale := _fitting(fault)) is not None:
        yield setting_proposal(fault, KEY, fault.subject.model.config[KEY], scale)


def _fitting(fault: Fault) -> float | None:
    """The scale s for which softmax(s·p) is the recorded one: log-scores of a row differ by s times the products."""
    unit, truth = fault.computed(Repair(overrides={KEY: 1.0})), fault.recorded_value
    if unit is None or truth is None or truth.shape != unit.shape:
        return None
    seen = (unit > SMALLEST) & (truth > SMALLEST)
    count = seen.sum(-1, keepdim=True).clamp_min(1)
    logs = [torch.where(seen, x.double().clamp_min(SMALLEST).log(), 0.0) for x in (unit, truth)]
    products, wanted = (torch.where(seen, x - x.sum(-1, keepdim=True) / count, 0.0) for x in logs)
    squares = float((products * products).sum())
    scale = float((products * wanted).sum()) / squares if squares else 0.0
    return float(torch.tensor(scale, dtype=torch.float32)) if scale > 0 else None
