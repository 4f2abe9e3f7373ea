"""Factors of columns show beneath the noise; what encoders do to columns is none."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.copies import COLUMNS, source, weight
from rosetta.compare.weights import compare_weights


@pytest.mark.parametrize(("dtype", "size"), [("Q4_K", 0.02), ("Q4_0", 0.02), ("Q2_K", 0.1), ("Q2_K", 0.2)])
def test_columns_with_factors_of_their_own_are_seen(dtype: str, size: float) -> None:
    values, random = source(), np.random.default_rng(2)
    scaled = values * (1 + size * random.standard_normal((1, COLUMNS)))
    found = compare_weights(weight(values, "F16"), weight(scaled, dtype))
    assert "column_factors" in {trait.kind for trait in found.traits}


@pytest.mark.parametrize(("dtype", "larger"), [("IQ4_NL", 20), ("Q2_K", 4), ("Q6_K", 50), ("Q8_0", 50)])
def test_columns_that_make_up_their_blocks_shrink_with_them(dtype: str, larger: float) -> None:
    values = source(1)
    values[:, np.random.default_rng(109 + larger).choice(COLUMNS, 8, replace=False)] *= larger
    assert compare_weights(weight(values, "F32"), weight(values, dtype)).traits == ()
