"""Another base of the rotary frequencies (`config.rope_theta`), read off an observed run whose settings may be its own.

Letters: T = tokens, N = heads, R = rotary pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.setting_proposals import setting_proposal
from rosetta.ops.rotary import Rotary

SLOWEST = 1e-4  # radians a token; below it a float32 angle says little
DIGITS = 3  # significant ones that a base is published with


def propose(fault: Fault) -> Iterator[Proposal]:
    """The base whose frequencies turn the inputs into what was observed, and the round number beside it."""
    op = fault.node.op
    if not fault.settings_unknown or not isinstance(op, Rotary) or (base := _fitting(fault, op)) is None:
        return
    own = fault.subject.model.config[op.base]
    for value in dict.fromkeys((float(f"{base:.{DIGITS}g}"), float(torch.tensor(base)))):
        if value != own.value:
            yield setting_proposal(fault, op.base, own, value)


def _fitting(fault: Fault, op: Rotary) -> float | None:
    """The base b of the angles b^(−j/R) by which pair j is turned from the first token to the second."""
    x, y = fault.input(), fault.recorded_value
    if x is None or y is None or x.shape != y.shape or len(x) < 2:
        return None
    first, second = op.halves(fault.pair.subject.runtime.step(fault.node), x.shape[-1])
    before, after = (
        torch.complex(z[:2, :, first].double(), z[:2, :, second].double()) for z in (x, y)
    )  # [2, N, R]
    turned = (after * before.conj()).sum(1)  # of all heads together, [2, R]
    angles = (turned[1] * turned[0].conj()).angle()
    pairs = torch.arange(len(angles), dtype=torch.float64)
    seen = (angles > SLOWEST) & (pairs > 0)
    if not bool(seen.any()):
        return None
    logs = -angles[seen].log() * len(angles) / pairs[seen]
    base = float(logs.median().exp())
    return base if base > 1 else None
