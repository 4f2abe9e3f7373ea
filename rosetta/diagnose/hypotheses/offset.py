"""One amount added to all values of a weight: a norm's `w` stored as `1 + w`, or the reverse (`value.offset`)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rosetta.diagnose.edits import Offset
from rosetta.diagnose.hypotheses.minimums import fitted_factors
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.patches import changed, fitted, sampled_blocks_of
from rosetta.finding_kind import FindingKind
from rosetta.weight import Weight

KINDS = (
    FindingKind(
        "value.offset",
        means="One amount is added to all values of a weight: a norm's w stored as 1 + w, or the reverse.",
        why="Gemma's norms multiply by 1 + w. GGUF holds the sum, a Hugging Face folder holds w; a converter adds the "
        "one twice, to a model that has none, or not at all.",
        repair="The amount is subtracted from every value. Store the weight without it.",
        order=40,
        whole=True,
        together="are off by amounts: zero points of a quantisation, or the one of 1 + w, were left out or added twice",
    ),
)

WHY = {1.0: ": the exporter adds it once too often", -1.0: ": the exporter leaves it out"}
"""What an exporter does that a norm of 1 + w is stored wrong; no exporter adds another amount."""


# Of the root mean square of the differences, an amount that lies beneath the noise of quantisation: smaller ones are an
# encoder's (`structure.MEAN`). And the standard deviations of the mean of so many that it must lie from nothing.
BENEATH, CERTAIN = 0.1, 12.0


def propose(fault: Fault) -> Iterator[Proposal]:
    """The amount by which each accused weight is off on average, where that is most of the difference."""
    for suspect, weight, amount in fitted(fault, offset_from_stage, fitted_offset):
        edit = Offset(amount, weight.dtype)
        yield Proposal(
            kind="value.offset",
            role=suspect.role,
            repair=changed(suspect.model, weight, edit),
            tensor=weight.name,
            actual=amount,
            message=f"{weight.name} is {amount:+.6g} off in every value",
            recommendation=f"store {weight.entry.name} {'less' if amount > 0 else 'plus'} {abs(amount):.6g}"
            + WHY.get(amount, ""),
        )


def offset_from_stage(fault: Fault, weight: Weight) -> float | None:
    """The amount that fits a recorded stage best: one more in every value moves the stage by a known step."""
    now, more = fault.computed(), fault.computed(changed(fault.subject.model, weight, Offset(-1.0)))
    truth = fault.recorded_value
    if now is None or more is None or truth is None or truth.shape != now.shape:
        return None
    step, gap = (more - now).double().flatten(), (now - truth).double().flatten()
    dot, squares = float(step @ gap), float(step @ step)
    if not squares or not dot * dot >= 0.5 * squares * float(gap @ gap):
        return None
    return _exact(dot / squares)


def fitted_offset(a: Weight, b: Weight) -> float | None:
    """The mean difference of two copies; None where it is too small a part of it, explains less than a factor does (of
    weights that are all about 1, as a norm's are, a factor near 1 looks like an amount, and so does one of scales or
    minimums alone), or is all that there was: what is zero was lost, but for the one of 1 + w."""
    blocks = sampled_blocks_of(a, b)
    gaps = [x - y for x, y in blocks]
    count, total = sum(gap.numel() for gap in gaps), sum(float(gap.sum()) for gap in gaps)
    squares = sum(float(gap.square().sum()) for gap in gaps)
    mean = total / max(1, count)
    least = min(0.5, max(BENEATH**2, CERTAIN**2 / max(1, count)))  # of the squares
    if not mean or not math.isfinite(mean) or not mean * mean * count >= least * squares:
        return None
    amount = _exact(mean)
    if amount not in WHY and not any(bool(x.any()) for x, _ in blocks):
        return None
    product = sum(float((gap * y).sum()) for gap, (_, y) in zip(gaps, blocks, strict=True))
    size = sum(float(y.square().sum()) for _, y in blocks)
    by_factor = squares - product * product / size if size else squares  # least squares: what a factor leaves
    left = squares - mean * mean * count
    if not amount.is_integer() and by_factor < left:
        return None
    apart = fitted_factors(a, b)
    return None if apart is not None and apart.left < left else amount


def _exact(amount: float) -> float:
    """One added or left out is meant exactly."""
    nearest = round(amount)
    return float(nearest) if nearest and abs(amount - nearest) < 1e-3 else amount
