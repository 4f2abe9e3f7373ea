"""Singular values, against linear algebra."""

from __future__ import annotations

import pytest
import torch

from fixtures.copies import COLUMNS, ROWS, source
from rosetta.compare.spectrum import (
    edge_of,
    largest_singular_value,
    rank_limit,
    with_errors_of_their_own,
)


def test_rows_as_large_as_others_all_have_errors_of_their_own() -> None:
    random = torch.Generator().manual_seed(0)
    z, u = (torch.randn(ROWS, COLUMNS, generator=random) for _ in range(2))
    z[5] *= 1e-4
    kept = with_errors_of_their_own(z, u, torch.ones_like(z), 32)
    assert (~kept).nonzero().flatten().tolist() == [5]


def test_largest_singular_value_is_that_of_svd() -> None:
    noise = torch.from_numpy(source()).float()
    spike = noise + 0.02 * torch.randn(ROWS, 1) @ torch.randn(1, COLUMNS)
    for z in (noise, spike):
        unit = edge_of(ROWS, COLUMNS, float(z.square().mean()))
        exact = float(torch.linalg.matrix_norm(z, 2)) / unit
        assert largest_singular_value(z) == pytest.approx(exact, rel=0.02 if z is spike else 0.08)


def test_limit_of_rank_is_above_what_random_matrices_have() -> None:
    for seed in range(20):
        z = torch.randn(64, 96, generator=torch.Generator().manual_seed(seed))
        exact = float(torch.linalg.matrix_norm(z, 2)) / edge_of(64, 96, 1.0)
        assert exact < rank_limit(64, 96)
