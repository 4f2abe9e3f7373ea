"""What a reading makes of stored values is undone exactly where float32 can: what was written reads back the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rosetta.architectures.parts.readings import MINUS_EXP, ONE_MORE, Centred, Mapped
from rosetta.containers.container import TensorEntry
from rosetta.convert.draft import Draft
from rosetta.row_order import GroupOrder, Part, RowOrder
from rosetta.weight import Weight


@pytest.mark.parametrize("edit", [ONE_MORE, MINUS_EXP], ids=["1 + w", "A of A_log"])
def test_a_written_value_reads_back_as_it_was(edit: Mapped) -> None:
    canonical = edit.function(0.1 * torch.randn(4096, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(edit.function(edit.stored(canonical, 0)), canonical)


def test_a_mean_that_is_taken_off_is_taken_off_once() -> None:
    edit, values = Centred(96), 0.1 * torch.randn(96, generator=torch.Generator().manual_seed(1)) + 3
    centred = edit.values(values, 0)
    assert centred.mean().abs() < 1e-6
    assert torch.equal(edit.values(centred, 0), centred)


@pytest.mark.parametrize(
    "how",
    [
        {"order": RowOrder(8, 8, 2)},
        {"part": Part(1, (2, 4, 2), 3)},
        {"columns": GroupOrder(2, 3, 1)},
        {"transposed": True},
        {"part": Part(0, (2, 4, 2), 3), "transposed": True},
    ],
    ids=["rotary rows", "a part of each group", "columns", "turned", "a part, turned"],
)
def test_placing_is_raw_turned_round(
    tmp_path_factory: pytest.TempPathFactory, how: dict[str, object]
) -> None:
    dims = (6, 24) if how.get("transposed") else (24, 6)
    data = np.random.default_rng(0).standard_normal(dims).astype(np.float32)
    entry = TensorEntry("t", "F32", dims, data.nbytes)

    class Held(Draft):
        def read(self, name: str, start: int = 0, nbytes: int | None = None) -> np.ndarray:
            flat = data.reshape(-1).view(np.uint8)
            return flat[start : None if nbytes is None else start + nbytes].copy()

    weight = Weight("t", Held(tmp_path_factory.getbasetemp(), "gguf"), entry, "F32", dims, **how)  # type: ignore[arg-type]
    rows = weight.raw()
    assert rows is not None
    stored = np.zeros(data.nbytes, np.uint8)
    weight.place(stored, rows)
    held = stored.view(np.float32).reshape(dims)
    where = held != 0
    assert where.sum() == rows.size // 4
    np.testing.assert_array_equal(held[where], data[where])
