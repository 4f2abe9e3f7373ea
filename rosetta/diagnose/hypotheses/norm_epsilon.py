"""Another epsilon in the normalisation (`config.norm_epsilon`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.settings_hypothesis import setting_hypothesis, setting_proposal
from rosetta.transformer import normalised

PUBLISHED = (1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 1e-3, 1e-4)
known = setting_hypothesis("config.norm_epsilon", "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")


def propose(fault: Fault) -> Iterator[Proposal]:
    """The reference's epsilon; of a recorded run that names none, the one that fits its stage."""
    yield from known(fault)
    key = fault.subject.model.architecture.epsilon_key
    if fault.settings_unknown and key in fault.op.keys and fault.op.inputs[0] in fault.pair.values:
        for value in _fitting(fault):
            yield setting_proposal(fault, "config.norm_epsilon", key, fault.subject.model.config[key], value)


def _fitting(fault: Fault) -> Iterator[float]:
    """The epsilon by which the recorded stage is smaller than without any, and the published one next to it.

    For y = g·x / √(m + ε) and y₀ = g·x / √m, with m the mean square of x: ε = m·((y₀/y)² − 1).
    """
    model, x, truth = fault.subject.model, fault.pair.values[fault.op.inputs[0]], fault.outcome.reference
    if truth is None or truth.shape != x.shape:
        return
    gain = model.weights[next(fault.names())].values().to(x)
    bare = (normalised(x, model["norm_type"], 0.0) * gain).double()
    ratio = (bare * bare).sum(-1) / (bare * truth.double()).sum(-1)  # [T]
    centred = x - x.mean(-1, keepdim=True) if model["norm_type"] == "layer" else x
    fitted = float((centred.double().square().mean(-1) * (ratio.square() - 1)).median())
    if not np.isfinite(fitted) or fitted <= 0:
        return
    yield min(PUBLISHED, key=lambda value: abs(np.log(value / fitted)))
    yield float(torch.tensor(fitted, dtype=torch.float32))
