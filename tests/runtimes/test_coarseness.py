"""How coarse a weight is said to be."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.memory import weight_of
from rosetta.runtimes.coarseness import coarseness


def test_how_coarse_a_large_weight_is_some_rows_from_all_over_it_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).standard_normal((1000, 64), dtype=np.float32)
    weight = weight_of(values * np.linspace(1, 9, 1000)[:, None], "Q8_0")
    whole = coarseness(weight)["rms_sigma"]
    assert whole == pytest.approx(float(weight.sigma().square().mean().sqrt()), rel=1e-6)
    monkeypatch.setattr("rosetta.runtimes.coarseness.SAMPLED", 8192)
    assert coarseness(weight)["rms_sigma"] != whole
    assert coarseness(weight)["rms_sigma"] == pytest.approx(whole, rel=0.1)
