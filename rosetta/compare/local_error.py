"""The local error of a stage beside its prediction, put together from parts of the stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rosetta.compare.results import LocalError
from rosetta.workers import sum_of_squares

# An element beyond this many σ, or a stage whose rms is beyond this many times its prediction, is a fault.
# Clean pairs stay below 4.8 and 1.21 (docs/noise.md, "Constants").
ELEMENT_SIGMAS = 10.0
STAGE_RMS = 1.5


@dataclass(frozen=True)
class Sums:
    """What a part of a local error adds up to; sums are of squares."""

    worst: float
    peak: float
    predicted: float
    gap: float
    sigma: float
    reference: float
    count: int

    @classmethod
    def of(cls, gap: Tensor, sigma: Tensor, reference: Tensor) -> Sums:
        """One part.

        Args:
            gap: difference of the two sides with the reference's inputs, any shape but an empty one.
            sigma: predicted standard deviation, broadcastable to it.
            reference: the reference's value, of as many elements.
        """
        # What is predicted without end, of weights that no model has, explains nothing.
        magnitude, sigma = gap.abs(), sigma.nan_to_num(nan=0.0, posinf=0.0).expand_as(gap)
        ratio = torch.where(magnitude == 0, 0.0, magnitude / (ELEMENT_SIGMAS * sigma))
        return cls(
            worst=float(ratio.max()),
            peak=float(magnitude.max()),
            predicted=float(sigma.max()),
            gap=sum_of_squares(gap),
            sigma=sum_of_squares(sigma),
            reference=sum_of_squares(reference),
            count=gap.numel(),
        )


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
    whole = 0.0 if gap == 0 else (gap / (STAGE_RMS * sigma) if sigma else math.inf)
    return LocalError(
        max_diff=max(part.peak for part in parts),
        rel_l2=_ratio(gap, size),
        predicted_max_diff=ELEMENT_SIGMAS * max(part.predicted for part in parts),
        predicted_rel_l2=_ratio(STAGE_RMS * sigma, size),
        worst_ratio=max(whole, *(part.worst for part in parts)),
    )


def _ratio(a: float, b: float) -> float:
    return a / b if b else (math.inf if a else 0.0)
