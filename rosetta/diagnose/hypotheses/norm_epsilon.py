"""Another epsilon in the normalisation (`config.norm_epsilon`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.diagnose.setting_proposals import believed_values, setting_proposal
from rosetta.ops.norm import Norm, normalised
from rosetta.settings_table import NORM_EPSILON, SETTINGS

SHOWS = 1e-3  # the default threshold of a stage
DIGITS = 3  # significant ones that an epsilon is set to
KEYS = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")


def propose(fault: Fault) -> Iterator[Proposal]:
    """The reference's epsilon; of a recorded run that names none, the one that fits its stage."""
    yield from (_with_reach(proposal) for proposal in believed_values(fault, *KEYS))
    if not fault.settings_unknown or fault.input() is None:
        return
    architecture = fault.subject.model.architecture
    for key in (key for key in fault.keys if SETTINGS[key].kind is NORM_EPSILON):
        own = fault.subject.model.config[key]
        for value in _fitting(fault, key) if architecture.seen or key == architecture.epsilon_key else ():
            yield _with_reach(setting_proposal(fault, key, own, value), own.value)
        for value in _fitting_behind(fault, key):
            yield _with_reach(setting_proposal(fault, key, own, value), own.value)


def _with_reach(proposal: Proposal, own: float | None = None) -> Proposal:
    """The proposal, with the size of activations below which the epsilon shows.

    Of an input with mean square m, an epsilon larger by d makes the output smaller by d / 2m of itself.
    """
    declared = own if own is not None else proposal.declared
    if declared is None or proposal.actual is None:
        return proposal
    below = math.sqrt(abs(declared - proposal.actual) / (2 * SHOWS))
    said = (
        f"; it changes the output by {SHOWS:g} of itself or more where the input's rms is below {below:.2g}"
    )
    return replace(proposal, message=proposal.message + said)


def _fitting(fault: Fault, key: str) -> Iterator[float]:
    """The epsilon by which the recorded stage is smaller than without any, and the published one next to it.

    For y = g·x / √(m + ε) and y₀ = g·x / √m, with m the mean square of x: ε = m·((y₀/y)² − 1). A bias is no part of y.
    """
    model, x, truth = fault.subject.model, fault.input(), fault.recorded_value
    weight = model.weights.get(next(fault.names(), ""))
    if x is None or truth is None or truth.shape != x.shape or weight is None or weight.dims != x.shape[-1:]:
        return
    gain, bias = weight.values().to(x), model.weights.get(weight.name.removesuffix("weight") + "bias")
    if bias is not None and bias.dims == weight.dims:
        truth = truth - bias.values().to(truth)
    kind = _kind(fault)
    bare = (normalised(x, kind, 0.0) * gain).double()
    ratio = (bare * bare).sum(-1) / (bare * truth.double()).sum(-1)  # [T]
    centred = x - x.mean(-1, keepdim=True) if kind == "layer" else x
    yield from _near(key, float((centred.double().square().mean(-1) * (ratio.square() - 1)).median()))


def _kind(fault: Fault) -> str:
    """Whether the stage's norm takes the mean off."""
    stated = (op.kind for op in fault.node.op.links if isinstance(op, Norm))
    kind = next((kind for kind in stated if kind is not None), None)
    return kind or str(fault.subject.model["norm_type"])


def _fitting_behind(fault: Fault, key: str) -> Iterator[float]:
    """The same of a norm behind a product, whose input is not of the stage: m from how much smaller the stage is with
    an epsilon of 1."""
    truth = fault.recorded_value
    bare, less = (fault.computed(Repair(overrides={key: value})) for value in (0.0, 1.0))
    if truth is None or bare is None or less is None or not truth.shape == bare.shape == less.shape:
        return

    def shrunk(by: Tensor) -> Tensor:  # (y₀/y)² − 1 of each row
        return ((bare * bare).double().sum(-1) / (bare * by).double().sum(-1)).square() - 1

    fitted = shrunk(truth) / shrunk(less)
    yield from _near(key, float(fitted[fitted.isfinite()].median()) if bool(fitted.isfinite().any()) else 0.0)


def _near(key: str, fitted: float) -> Iterator[float]:
    """The published epsilon next to one, the round number, and itself."""
    if np.isfinite(fitted) and fitted > 0:
        yield min(SETTINGS[key].published, key=lambda value: abs(np.log(value / fitted)))
        yield float(f"{fitted:.{DIGITS}g}")
        yield float(torch.tensor(fitted, dtype=torch.float32))
