"""Queries scaled by their position, token by token in a plain loop."""

from __future__ import annotations

import math

import pytest
import torch

from fixtures.steps import HeldStep
from rosetta.ops.temperature import Temperature

SETTINGS = {"attention.temperature_scale": 0.25, "attention.temperature_length": 4}


@pytest.mark.parametrize("start", [0, 3, 7])
@pytest.mark.parametrize("offset", [0, 1])
def test_each_token_is_scaled_by_its_own_position(start: int, offset: int) -> None:
    x = torch.randn(9, 2, 6, generator=torch.Generator().manual_seed(1))
    y = Temperature(offset=offset).compute(HeldStep(SETTINGS, {}, start), x)
    for token in range(9):
        factor = 1 + 0.25 * math.log(1 + (start + token + offset) // 4)
        torch.testing.assert_close(y[token].double(), x[token].double() * factor, atol=1e-6, rtol=0)


def test_nothing_is_scaled_within_the_first_length() -> None:
    x = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Temperature().compute(HeldStep(SETTINGS, {}), x), x)
