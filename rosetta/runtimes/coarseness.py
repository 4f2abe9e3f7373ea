"""How coarse a weight is: what a comparison with a recording must expect of the stages that were computed with it."""

from __future__ import annotations

import math
from typing import Any

import torch

from rosetta.weight import Weight, row_ranges

SAMPLES, SAMPLED = 8, 1 << 16  # runs of rows, and weights, by which the coarseness of a large matrix is told


def coarseness(weight: Weight) -> dict[str, Any]:
    """What a recording says of a weight: its dtype, and the root mean square of its rounding; of a large one, by some
    rows from all over it."""
    ranges = _sampled_rows(weight)
    # One after the other: on so few rows, workers wait for each other longer than they work.
    sums = [float(weight.sigma(*rows).square().sum(dtype=torch.float64)) for rows in ranges]
    share = sum(stop - start for start, stop in ranges) / max(1, weight.dims[0]) if weight.dims else 1
    return {"dtype": weight.dtype, "rms_sigma": math.sqrt(sum(sums) / max(1, weight.count * share))}


def _sampled_rows(weight: Weight) -> list[tuple[int, int]]:
    """All rows of a weight, or `SAMPLES` runs of them that hold `SAMPLED` weights together."""
    rows = weight.dims[0] if weight.dims else 1
    if weight.count <= SAMPLED or rows < 2 * SAMPLES:
        return row_ranges(weight)
    each = max(1, SAMPLED // SAMPLES * rows // weight.count)
    return [(start, start + each) for start in range(0, rows - each + 1, rows // SAMPLES)]
