"""Where the tail of a tensor's block ratios begins, held to numpy's sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rosetta.compare.block_cuts import COMMON, SAMPLE, common_ratio


def by_sorting(values: torch.Tensor) -> float:
    ordered = np.sort(values.numpy(), axis=None)
    return float(ordered[max(1, int(np.ceil(COMMON * len(ordered)))) - 1])


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, SAMPLE - 1, SAMPLE + 1, 50 * SAMPLE + 7])
@pytest.mark.parametrize("kind", ["any", "equal", "zeros", "infinite", "sorted", "periodic"])
def test_ninety_nine_of_a_hundred_blocks_stay_below_it(count: int, kind: str) -> None:
    """Ratios that a sample of every so-many-th says nothing of among them."""
    values = torch.rand(count, generator=torch.Generator().manual_seed(count))
    if kind == "equal":
        values[:] = 0.5
    elif kind == "zeros":
        values[values < 0.995] = 0.0
    elif kind == "infinite":
        values[values > 0.9] = torch.inf
    elif kind == "sorted":
        values = values.sort(descending=True).values
    elif kind == "periodic":  # the sample has the largest of all
        values[:: max(1, count // SAMPLE)] += 10
    assert common_ratio(values.view(-1, 1)) == by_sorting(values)
