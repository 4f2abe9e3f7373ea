"""Products with learned factors."""

from __future__ import annotations

import torch

from fixtures.steps import HeldStep
from rosetta.ops.factors import Factors

NAME = "ffn_gate_inp.scale"


def test_the_last_dimension_is_multiplied() -> None:
    x, factors = torch.arange(12.0).view(2, 2, 3), torch.tensor([2.0, -1.0, 0.5])
    y = Factors(NAME, width=3).compute(HeldStep({}, {NAME: factors}), x)
    assert y[1, 0].tolist() == [12.0, -7.0, 4.0]


def test_a_file_without_them_leaves_the_input() -> None:
    x = torch.ones(2, 3)
    assert Factors(NAME, width=3).compute(HeldStep({}, {}), x) is x
