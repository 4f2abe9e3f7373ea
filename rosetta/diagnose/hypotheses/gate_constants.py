"""Other constants of a clamped gate (`config.activation`): the slope of its sigmoid, and what its factors are held
below, read off an observed run.

Letters: T = tokens, F = features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.setting_proposals import setting_proposal
from rosetta.ops.clamped_gate import ClampedActivation, ClampedGate
from rosetta.ops.pointwise import ACTIVATIONS

DIGITS = 4  # significant ones that a constant is published with
CURVED = (0.05, 0.95)  # of a sigmoid: where its value tells its slope
TELLING = 0.05  # of a factor's rms: what is smaller tells the other factor badly
HELD = 1e-3  # relative: two values farther apart are not one


def propose(fault: Fault) -> Iterator[Proposal]:
    """The slope that the values tell that nothing held, and the bound that those tell that were held."""
    op, truth = fault.node.op, fault.recorded_value
    if not fault.settings_unknown or truth is None or not isinstance(op, ClampedGate | ClampedActivation):
        return
    gate, up = fault.input(0), fault.input(1)
    if gate is None or up is None or not gate.shape == up.shape == truth.shape:
        return
    gate, up, truth = gate.double(), up.double(), truth.double()
    settings = fault.subject.model.settings_of(fault.layer)
    if isinstance(op, ClampedGate):
        slope = float(settings[op.alpha])
        yield from _stated(fault, op.alpha, _slope(gate, up, truth, float(settings[op.limit])))
        factor, added = gate * torch.sigmoid(gate * slope), 1.0
    else:
        factor, added = ACTIVATIONS[settings[op.key]](gate), 0.0
    yield from _stated(fault, op.limit, _limit(gate, factor, up, truth, added))


def _stated(fault: Fault, key: str, value: float | None) -> Iterator[Proposal]:
    own = fault.subject.model.config[key]
    if value is not None and value != own.value:
        yield setting_proposal(fault, key, own, value)


def _slope(gate: Tensor, up: Tensor, truth: Tensor, limit: float) -> float | None:
    """α of y = (up + 1)·gate·σ(α·gate), of values that no bound holds; None where none tells it."""
    share = truth / ((up + 1) * gate)
    free = (gate < limit) & (up.abs() < limit) & (gate.abs() > TELLING) & ((up + 1).abs() > TELLING)
    seen = free & (share > CURVED[0]) & (share < CURVED[1])
    if not bool(seen.any()):
        return None
    return _published(float((torch.logit(share[seen]) / gate[seen]).median()))


def _limit(gate: Tensor, factor: Tensor, up: Tensor, truth: Tensor, added: float) -> float | None:
    """c between whose negative and itself `up` was held, of values whose gate is negative, which no bound holds."""
    size = float(factor.square().mean().sqrt())
    seen = (gate < 0) & (factor.abs() > TELLING * size)
    if not bool(seen.any()):
        return None
    held, own = truth[seen] / factor[seen] - added, up[seen]
    beyond = (held - own).abs() > HELD * own.abs().clamp_min(1.0)
    if bool(beyond.any()):
        return _published(float(held[beyond].abs().median()))
    return _published(float(own.abs().max()) * 2)  # nothing was: any bound beyond all of it


def _published(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
