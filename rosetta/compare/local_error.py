"""The local error of a stage beside its prediction, put together from parts of the stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta.compare.results import LocalError
from rosetta.workers import VALUES_AT_ONCE, sum_of_squares

# An element beyond this many σ, or a stage whose rms is beyond this many times its prediction, is a fault.
# Clean pairs stay below 4.8 and 1.21 (docs/noise.md, "Constants").
ELEMENT_SIGMAS = 10.0
STAGE_RMS = 1.5
# That of a stage whose outputs are few is beyond chance only behind the quantile that one stage in a million passes.
MILLIONTH = 4.753  # of a normal distribution


def rms_limit(outputs: float) -> float:
    """How many times its prediction the rms of so many independent outputs may be: `STAGE_RMS`, and of few of them what
    χ² leaves to chance (Wilson and Hilferty 1931: the cube root of χ²/n is normal).

    >>> [round(rms_limit(n), 2) for n in (1, 4, 16, 64, 4096)]
    [5.24, 2.97, 1.92, 1.5, 1.5]
    """
    spread = 2 / (9 * outputs)
    return max(STAGE_RMS, math.pow(1 - spread + MILLIONTH * math.sqrt(spread), 1.5))


@dataclass(frozen=True)
class Sums:
    """What a part of a local error adds up to; sums are of squares.

    `fourths` sums the squares of what each output's σ² comes to over all tokens: the error of an output is one and the
    same weights' error, seen by inputs that may be much alike, so that tokens add nothing to how many are independent.
    """

    worst: float
    peak: float
    predicted: float
    gap: float
    sigma: float
    fourths: float
    reference: float
    count: int

    @classmethod
    def of(cls, gap: Tensor, sigma: Tensor, reference: Tensor, token_axis: int = 0) -> Sums:
        """One part.

        Args:
            gap: difference of the two sides with the reference's inputs, any shape but an empty one.
            sigma: predicted standard deviation, broadcastable to it.
            reference: the reference's value, of as many elements.
            token_axis: the dimension that counts tokens, where there is more than one.
        """
        # What is predicted without end, of weights that no model has, explains nothing.
        magnitude, sigma = gap.abs(), sigma.nan_to_num(nan=0.0, posinf=0.0).expand_as(gap)
        of_outputs = _summed_over_tokens(sigma, token_axis)
        ratio = torch.where(magnitude == 0, 0.0, magnitude / (ELEMENT_SIGMAS * sigma))
        return cls(
            worst=float(ratio.max()),
            peak=float(magnitude.max()),
            predicted=float(sigma.max()),
            gap=sum_of_squares(gap),
            sigma=float(of_outputs.sum()),
            fourths=float(of_outputs.square().sum()),
            reference=sum_of_squares(reference),
            count=gap.numel(),
        )


def _summed_over_tokens(sigma: Tensor, token_axis: int) -> Tensor:
    """σ² of each output, of all tokens together, float64."""
    if sigma.dim() < 2:
        return sigma.double().square()
    at_once = max(1, VALUES_AT_ONCE // sigma[0].numel())
    parts = [some.double().square().sum(token_axis) for some in torch.split(sigma, at_once)]
    return torch.cat(parts) if token_axis else torch.stack(parts).sum(dim=0)


def local_error(parts: Sequence[Sums]) -> LocalError:
    """A stage's local error; of no parts, that of a stage whose weights, config and inputs are equal on both sides.

    Returns:
        `worst_ratio` is the larger of the largest |gap| / (k σ) and of the stage's rms over its own limit;
        above 1 the stage is faulty. The rms is of all parts together: one part is no stage.
    """
    if not parts:
        return LocalError(
            max_diff=0.0, rel_l2=0.0, predicted_max_diff=0.0, predicted_rel_l2=0.0, worst_ratio=0.0
        )
    count = sum(part.count for part in parts)
    gap, sigma, size = (
        math.sqrt(math.fsum(getattr(p, x) for p in parts) / count) for x in ("gap", "sigma", "reference")
    )
    fourths = math.fsum(part.fourths for part in parts)
    allowed = sigma * (rms_limit((sigma**2 * count) ** 2 / fourths) if fourths else STAGE_RMS)
    whole = 0.0 if gap == 0 else (gap / allowed if allowed else math.inf)
    return LocalError(
        max_diff=max(part.peak for part in parts),
        rel_l2=_ratio(gap, size),
        predicted_max_diff=ELEMENT_SIGMAS * max(part.predicted for part in parts),
        predicted_rel_l2=_ratio(allowed, size),
        worst_ratio=max(whole, *(part.worst for part in parts)),
    )


def _ratio(a: float, b: float) -> float:
    return a / b if b else (math.inf if a else 0.0)
