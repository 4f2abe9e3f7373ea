"""Of weights that are known to be of two models a sample is compared, and all where the sample does not differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.memory import MemoryContainer, stored
from rosetta.compare import at_sight
from rosetta.compare.at_sight import compare_at_sight
from rosetta.compare.weights import compare_weights
from tests.test_weight_cache import copy

DIMS = (300, 64)
ROWS = 50


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_sight, "SAMPLED", ROWS * DIMS[1])


@pytest.mark.parametrize("dtype", ["F32", "Q8_0", "Q4_K"])
def test_figures_are_those_of_all_rows(dtype: str, decoded_rows: list[int]) -> None:
    dims = (300, 256) if dtype == "Q4_K" else DIMS
    pair = copy("w", dtype, dims=dims), copy("w", "F32", seed=1, dims=dims)
    whole = compare_weights(*pair)
    decoded_rows.clear()
    found = compare_at_sight(*pair)
    rows = ROWS * DIMS[1] // dims[1]
    assert sum(decoded_rows) <= 2 * 2 * rows, "two copies, each once for the rows that it has given up"
    assert (found.state, whole.state, found.sampled, whole.sampled) == ("differing", "differing", rows, None)
    assert found.rel_rmse == pytest.approx(whole.rel_rmse, rel=0.1)
    assert found.predicted == pytest.approx(whole.predicted, rel=0.1)
    assert found.cosine == pytest.approx(whole.cosine, abs=0.1)


def test_worst_block_is_where_it_lies_in_the_whole() -> None:
    a, b = copy("w", "F32", dims=DIMS), copy("w", "F32", seed=1, dims=DIMS)
    found = compare_at_sight(a, b)
    assert found.worst_block is not None
    row, column = found.worst_block
    gap = (a.values() - b.values())[row, column]
    rows = [(2 * place + 1) * DIMS[0] // (2 * ROWS) for place in range(ROWS)]
    assert row in rows
    assert abs(float(gap)) > 0


def test_all_is_compared_where_the_sample_agrees() -> None:
    a = copy("w", "F32", dims=DIMS)
    assert compare_at_sight(a, copy("w", "F32", dims=DIMS)).state == "identical"
    values = a.values().numpy().copy()
    values[0] = 1.0  # the sample has other rows
    container = MemoryContainer({}, {"w": stored(values, "F32")})
    found = compare_at_sight(a, replace(a, container=container, entry=container.tensors["w"]))
    assert (found.state, found.sampled) == ("differing", None)
    assert found.worst_block is not None
    assert found.worst_block[0] == 0


def test_vectors_small_matrices_and_other_dims_are_compared_whole() -> None:
    for dims in ((256,), (60, 64)):
        found = compare_at_sight(copy("w", "F32", dims=dims), copy("w", "F32", seed=1, dims=dims))
        assert (found.state, found.sampled) == ("differing", None)
    other = compare_at_sight(copy("w", "F32", dims=DIMS), copy("w", "F32", dims=(DIMS[1], DIMS[0])))
    assert (other.state, other.sampled) == ("differing", None)
