"""What chance leaves of sums over independent errors: Student's t, and what it stays below."""

from __future__ import annotations

import math

from torch import Tensor

from rosetta.compare.trait import DEVIATIONS, ROW_DEVIATIONS


def students_t(x: Tensor) -> Tensor:
    """The mean of each row in standard deviations of a mean of so many, [R, n] -> [R]."""
    return x.mean(1) / (x.std(1) / math.sqrt(x.shape[1])).clamp(min=1e-300)


def limit_of_one(free: int) -> float:
    """What Student's t of so many degrees of freedom exceeds as rarely as a normal deviate its sixfold deviation, and
    the least that is believed of one row.

    ν ln(1 + t² / ν) is near the square of a normal deviate (Wallace 1959, without his factor (8ν + 1) / (8ν + 3)).
    """
    return max(ROW_DEVIATIONS, math.sqrt(free * math.expm1(DEVIATIONS**2 / free)))


def limit_of_all(free: float, count: int, differing: float = 0.0) -> float:
    """What the root mean square of so many deviations stays below in a clean copy.

    Each is Student's t of ν degrees of freedom. Its square has the mean ν / (ν − 2) and the second moment
    3ν² / (ν − 2)(ν − 4).

    Args:
        free: ν of each.
        count: how many they are.
        differing: what the square's mean may have beyond that.
    """
    mean, fourth = free / (free - 2), 3 * free**2 / ((free - 2) * (free - 4))
    return math.sqrt(mean + DEVIATIONS * math.sqrt((fourth - mean**2) / count) + differing)
