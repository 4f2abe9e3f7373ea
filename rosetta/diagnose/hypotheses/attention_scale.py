"""Another scale of the attention's products (`config.attention_scale`), or another bound on them (`config.softcap`),
read off a recorded run that states none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.setting_proposals import setting_proposal
from rosetta.ops.attention import Scores, attention_scores

KEY = "attention.scale"
SMALLEST = 1e-6  # of a softmax, below which a logarithm in float32 says little
DIGITS = 5  # significant ones that a bound or a scale is published with
WIDE = 4.0  # natural logarithm of how far from ours a number is looked for
COARSE = 33  # numbers tried first
STEPS = 60  # of a golden section then: what is left is below float32's last bit
GOLDEN = (math.sqrt(5) - 1) / 2


def propose(fault: Fault) -> Iterator[Proposal]:
    """The scale, or the bound, that fits the recorded scores."""
    op = fault.node.op
    if not fault.settings_unknown or not isinstance(op, Scores):
        return
    model = fault.subject.model
    capped = op.softcap is not None and bool(model.settings_of(fault.layer)[op.softcap])
    if KEY in fault.keys and not capped and (scale := _fitting(fault)) is not None:
        yield setting_proposal(fault, KEY, model.config[KEY], scale)
    if op.softcap is not None:
        own = float(model.settings_of(fault.layer)[op.softcap])
        yield from _numbers(fault, op, op.softcap, "softcap", own or 30.0)
    if capped and KEY in fault.keys:
        yield from _numbers(fault, op, KEY, "scale", float(model.settings_of(fault.layer)[KEY]))


def _fitting(fault: Fault) -> float | None:
    """The scale s for which softmax(s·p + b) is the recorded one: log-scores of a row differ by s times the products p,
    and by ALiBi's b, which two scores of ours have alike."""
    half, truth = float(fault.subject.model.settings_of(fault.layer)[KEY]) / 2, fault.recorded_value
    ours = [fault.computed(Repair(overrides={KEY: scale})) for scale in (half, 2 * half)]
    known = [x for x in (*ours, truth) if x is not None]
    if len(known) < 3 or len({x.shape for x in known}) > 1:
        return None
    seen = (torch.stack(known) > SMALLEST).all(0)
    count = seen.sum(-1, keepdim=True).clamp_min(1)
    logs = [torch.where(seen, x.double().clamp_min(SMALLEST).log(), 0.0) for x in known]
    low, high, told = (torch.where(seen, x - x.sum(-1, keepdim=True) / count, 0.0) for x in logs)
    products = high - low
    squares = float((products * products).sum())
    scale = half * (1 + float((products * (told - low)).sum()) / squares) if squares else 0.0
    return float(torch.tensor(scale, dtype=torch.float32)) if scale > 0 else None


def _numbers(fault: Fault, op: Scores, key: str, field: str, own: float) -> Iterator[Proposal]:
    """The number of the shaping that leaves least of the difference, where no logarithm makes it a line."""
    q, k, truth = fault.input(0), fault.input(1), fault.recorded_value
    if q is None or k is None or truth is None or truth.dim() != 3 or q.dim() != 3 or own <= 0:
        return
    shaping = op.shaping(fault.pair.subject.runtime.step(fault.node), q.shape[1])

    def left(logarithm: float) -> float:
        changed: dict[str, Any] = {field: own * math.exp(logarithm)}
        return float((attention_scores(q, k, replace(shaping, **changed)) - truth).double().norm())

    found = own * math.exp(_least(left))
    stated = fault.subject.model.config[key]
    for value in dict.fromkeys((float(f"{found:.{DIGITS}g}"), float(torch.tensor(found)))):
        yield setting_proposal(fault, key, stated, value)


def _least(of: Callable[[float], float]) -> float:
    """Where a function is least within `WIDE` of 0.

    >>> round(_least(lambda x: (x - 0.7) ** 2), 6)
    0.7
    """
    places = [WIDE * (2 * i / (COARSE - 1) - 1) for i in range(COARSE)]
    best = min(range(COARSE), key=lambda i: of(places[i]))
    low, high = places[max(best - 1, 0)], places[min(best + 1, COARSE - 1)]
    for _ in range(STEPS):
        width = GOLDEN * (high - low)
        first, second = high - width, low + width
        low, high = (low, second) if of(first) < of(second) else (first, high)
    return (low + high) / 2
