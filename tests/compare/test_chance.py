"""Limits of Student's t against its own distribution, integrated."""

from __future__ import annotations

import math

import pytest
import torch

from rosetta.compare.chance import limit_of_one
from rosetta.compare.trait import ROW_DEVIATIONS


@pytest.mark.parametrize("free", [15, 31])
def test_a_single_row_may_stray_as_far_as_students_t_of_its_blocks(free: int) -> None:
    """As rarely as a normal deviate is six standard deviations off: integrated, in float64."""
    t = limit_of_one(free) + torch.logspace(-6, 5, 200_001, dtype=torch.float64)
    scale = math.exp(math.lgamma((free + 1) / 2) - math.lgamma(free / 2)) / math.sqrt(free * math.pi)
    beyond = 2 * float(torch.trapezoid(scale * (1 + t * t / free) ** (-(free + 1) / 2), t))
    assert math.log10(beyond) == pytest.approx(math.log10(math.erfc(6 / math.sqrt(2))), abs=0.5)
    assert limit_of_one(1000) == ROW_DEVIATIONS
