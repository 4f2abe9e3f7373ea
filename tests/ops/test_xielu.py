"""xIELU against its definition in float64, value by value."""

from __future__ import annotations

import math

import pytest
import torch

from fixtures.steps import HeldStep
from rosetta.ops.xielu import Xielu

SETTINGS = {"xielu.alpha_p": 0.3, "xielu.alpha_n": -0.9, "xielu.beta": 0.5, "xielu.eps": -1e-6}


def by_definition(x: float) -> float:
    alpha_p = math.log1p(math.exp(SETTINGS["xielu.alpha_p"]))
    alpha_n = SETTINGS["xielu.beta"] + math.log1p(math.exp(SETTINGS["xielu.alpha_n"]))
    if x > 0:
        return alpha_p * x * x + SETTINGS["xielu.beta"] * x
    return (math.expm1(min(x, SETTINGS["xielu.eps"])) - x) * alpha_n + SETTINGS["xielu.beta"] * x


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 2e-6)])
def test_it_is_the_definitions(dtype: torch.dtype, bound: float) -> None:
    x = torch.tensor([-30.0, -3.0, -0.5, -1e-7, 0.0, 1e-7, 0.5, 3.0, 10.0], dtype=dtype)
    y = Xielu(0).compute(HeldStep(SETTINGS, {}), x)
    wanted = torch.tensor([by_definition(float(value)) for value in x], dtype=torch.float64)
    torch.testing.assert_close(y.double(), wanted, atol=bound, rtol=bound)
