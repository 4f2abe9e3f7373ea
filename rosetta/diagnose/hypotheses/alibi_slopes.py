"""Other slopes of ALiBi (`config.alibi`), read off the recorded scores.

Letters: T = tokens, N = heads.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rosetta.diagnose.hypotheses.attention_scale import SMALLEST
from rosetta.diagnose.hypothesis import Fault, Proposal, Repair
from rosetta.ops.attention import Scores, alibi_slopes, distances
from rosetta.ops.edit import OpEdit

DIGITS = 4  # significant ones that a slope is stated with


def propose(fault: Fault) -> Iterator[Proposal]:
    """The slopes by which the recorded scores fall with distance."""
    op = fault.node.op
    if not isinstance(op, Scores) or op.alibi is None or not fault.settings_unknown:
        return
    found = _fitting(fault, op)
    if found is None:
        return
    own, slopes = found
    said, wanted = (", ".join(f"{slope:.{DIGITS}g}" for slope in some[:4]) for some in (own, slopes))
    yield Proposal(
        kind="config.alibi",
        role="subject",
        repair=Repair(operations=(OpEdit(Scores, (("slopes", slopes),)),)),
        message=f"scores fall by {said}, … a token, those recorded by {wanted}, …",
        recommendation="compute with the slopes of the heads' number and of the largest exponent that the file states",
        key=op.alibi,
        declared=f"slopes {said}, …",
        actual=f"slopes {wanted}, …",
    )


def _fitting(fault: Fault, op: Scores) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Our slopes and the recorded ones: of a row, the logarithms of both scores differ by a line in the distance,
    whose slope is that of the slopes."""
    truth = fault.recorded_value
    own = None if truth is None else fault.computed()
    if own is None or truth is None or truth.shape != own.shape or own.dim() != 3:
        return None
    exponent = float(fault.subject.model.settings_of(fault.layer)[str(op.alibi)])
    slopes = alibi_slopes(len(own), exponent).double() if exponent else torch.zeros(len(own)).double()
    seen = (own > SMALLEST) & (truth > SMALLEST)
    count = seen.sum(-1, keepdim=True).clamp_min(1)
    gap = torch.where(
        seen, own.double().clamp_min(SMALLEST).log() - truth.double().clamp_min(SMALLEST).log(), 0.0
    )
    far = torch.where(seen, distances(own.shape[1], own.shape[2]).double(), 0.0)
    gap, far = (torch.where(seen, x - x.sum(-1, keepdim=True) / count, 0.0) for x in (gap, far))
    squares = far.square().sum((1, 2))
    if not bool((squares > 0).all()):
        return None
    found = slopes + (gap * far).sum((1, 2)) / squares
    return tuple(slopes.tolist()), tuple(found.tolist())
