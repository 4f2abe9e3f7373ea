"""Two weights are the same by what they hold in canonical order, however each file stores it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.blueprint import interleaved
from fixtures.memory import weight_of, weight_of_bytes
from rosetta.architectures import SPLIT_HALF
from rosetta.row_order import RowOrder
from rosetta.same_weights import same_bytes


def random(*dims: int) -> NDArray[np.float32]:
    return np.random.default_rng(list(dims)).standard_normal(dims, dtype=np.float32)


@pytest.mark.parametrize("dtype", ["F32", "F16", "Q8_0"])
def test_equal_bytes_are_found_in_any_order_of_rows(dtype: str) -> None:
    values = random(64, 32)
    ours = weight_of(values, dtype, order=RowOrder(16, 16, SPLIT_HALF))
    assert same_bytes(ours, weight_of(interleaved(values, 4), dtype))
    assert not same_bytes(ours, weight_of(values, dtype))


def test_equal_bytes_of_a_turned_matrix_are_found() -> None:
    values = random(8, 6)
    assert same_bytes(weight_of(values.T.copy(), "F16", transposed=True), weight_of(values, "F16"))


@pytest.mark.parametrize("row", [0, 20, 63])
@pytest.mark.parametrize("rows_at_once", [8, 10, 4096])
def test_one_weight_that_differs_is_seen_wherever_it_is(
    row: int, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rosetta.weight.WEIGHTS_AT_ONCE", rows_at_once * 32)
    values = random(64, 32)
    other = values.copy()
    other[row, 31] += 1
    assert not same_bytes(weight_of(values), weight_of(other))
    assert same_bytes(weight_of(values), weight_of(values.copy()))


def test_equal_values_in_another_dtype_or_shape_are_not_equal_bytes() -> None:
    values = np.ones((4, 32), np.float32)
    assert not same_bytes(weight_of(values), weight_of(values, "F16"))
    assert not same_bytes(weight_of(values), weight_of(values.reshape(8, 16)))


def test_two_dtypes_of_the_same_bytes_are_told_apart() -> None:
    raw = random(4, 32).astype("<f2").view(np.uint8)
    assert not same_bytes(*(weight_of_bytes(raw, dtype, (4, 32)) for dtype in ("F16", "BF16")))


def test_equal_tensors_of_one_block_are_compared_by_value() -> None:
    values = random(5, 7)  # rows are no whole blocks
    assert same_bytes(weight_of(values, "APR_Q8"), weight_of(values, "APR_Q8"))
    assert not same_bytes(weight_of(values, "APR_Q8"), weight_of(-values, "APR_Q8"))
