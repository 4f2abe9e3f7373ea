"""Numbers for groups of a matrix: those of some groups only, and none where they explain nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fixtures.dtypes import encode
from fixtures.memory import MemoryContainer
from fixtures.quantize import quantize
from rosetta.diagnose.hypotheses.cell_factors import _fitting
from rosetta.weight import Weight

Floats = NDArray[np.float32]
ROWS, COLUMNS = 256, 384


def held(values: Floats, dtype: str) -> Weight:
    raw: NDArray[Any] = encode(values, dtype) if dtype in ("F32", "BF16") else quantize(values, dtype)
    raw = np.ascontiguousarray(raw).view(np.uint8).reshape(-1)
    container = MemoryContainer({}, {"w": (dtype, values.shape, raw)})
    return Weight("w", container, container.tensors["w"], dtype, values.shape)


def drawn() -> Floats:
    return np.random.default_rng(1).standard_normal((ROWS, COLUMNS), dtype=np.float32) * np.float32(0.05)


def test_a_few_groups_that_are_each_off_by_one_amount_are_described() -> None:
    """Zero points of nought that were read as fifteen: every other group is right."""
    wrong = drawn()
    wrong[::7, 64:96] -= np.float32(0.2)
    assert _fitting(held(wrong, "F32"), held(drawn(), "F32")) == ("amount", 1, 32)


def test_a_few_damaged_groups_are_off_by_no_amount() -> None:
    wrong = drawn()
    wrong[::7, 64:96] = wrong[::7, 64:96][:, ::-1]
    assert _fitting(held(wrong, "F32"), held(drawn(), "F32")) is None


def test_an_adapter_is_no_amount_of_each_column() -> None:
    """Taking an amount off allows more noise, by which any difference would do."""
    random = np.random.default_rng(2)
    added = random.standard_normal((ROWS, 16)) @ random.standard_normal((16, COLUMNS))
    wrong = (drawn() + added * (0.035 * np.linalg.norm(drawn()) / np.linalg.norm(added))).astype(np.float32)
    assert _fitting(held(wrong, "Q5_0"), held(drawn(), "BF16")) is None
