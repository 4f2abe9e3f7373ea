"""Single rows that are another side's no more; rounding makes none so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fixtures.copies import COLUMNS, ROWS, Floats, bf16, decoded, source, weight
from rosetta.compare.row_laws import ROW_LIKENESS, ROW_MEAN, _common, of_rows
from rosetta.compare.row_sums import RowSums, pass_over, row_sums
from rosetta.compare.weights import compare_weights


def test_factors_of_rows_are_seen_above_codes_of_eight_bits() -> None:
    held = decoded(source(), 127)
    scaled = (held * (1 + 0.01 * np.random.default_rng(2).standard_normal((ROWS, 1)))).astype(np.float32)
    for dtype in ("Q8_0", "Q4_K", "Q4_0"):
        assert compare_weights(bf16(held), weight(scaled, dtype)).state == "differing"


@pytest.mark.parametrize(("dtype", "size"), [("Q4_K", 0.05), ("Q4_0", 0.03), ("Q2_K", 0.05)])
def test_rows_with_factors_of_their_own_are_seen(dtype: str, size: float) -> None:
    values, random = source(), np.random.default_rng(2)
    scaled = values * (1 + size * random.standard_normal((ROWS, 1)))
    found = compare_weights(weight(values, "F16"), weight(scaled, dtype))
    assert "row_factors" in {trait.kind for trait in found.traits}


def test_an_amount_in_a_few_blocks_of_a_row_is_none_of_the_row() -> None:
    """Beside a weight far larger than they, those of a block may all have a level of one sign."""
    values, noise = source(), 0.05 * np.random.default_rng(2).standard_normal((ROWS, COLUMNS))

    def found(blocks: int, amount: float) -> list[str]:
        stored = values + noise
        stored[5, : 32 * blocks] += amount
        fine, coarse = weight(values, "F16"), weight(stored, "Q8_0")
        a, b = coarse.values(), fine.values()
        passed = pass_over(a, b, torch.ones_like(a), 32, proportional=False)
        sums = row_sums(passed, torch.full((COLUMNS // 32,), 32.0))
        assert float(sums.gap[5] / (sums.error[5] * COLUMNS).sqrt()) > ROW_MEAN
        return [trait.kind for trait in of_rows(coarse, fine, sums, COLUMNS)]

    assert found(4, 3.0) == []
    assert found(16, 0.05) == ["row_offsets"]


def test_a_row_whose_largest_weight_was_clipped_is_no_other_row() -> None:
    """An encoder that weighs errors clips what hardly matters: of the row's square little is left."""
    values = source()
    values[5, 7] = 60 * values.std()
    clipped, other = values.copy(), values.copy()
    clipped[5, 7], other[5] = 4 * values.std(), values[6]

    def found(stored: Floats) -> list[str]:
        fine, coarse = weight(values, "F16"), weight(stored, "Q2_K")
        a, b = coarse.values(), fine.values()
        passed = pass_over(a, b, torch.ones_like(a), 32, proportional=False)
        sums = row_sums(passed, torch.full((COLUMNS // 32,), 32.0))
        assert float(1 + sums.product[5] / sums.size_b[5]) < ROW_LIKENESS
        return [trait.kind for trait in of_rows(coarse, fine, sums, COLUMNS)]

    assert "rows" not in found(clipped)
    assert "rows" in found(other)


def test_a_massive_row_does_not_speak_for_what_the_encoder_takes_from_all() -> None:
    rows = RowSums(*(torch.ones(100, dtype=torch.float64) for _ in RowSums.__dataclass_fields__))
    rows.size_b[:], rows.product[:] = 100.0, -1.0
    # The encoder shrank this one three times as much.
    rows.size_b[7], rows.error[7], rows.product[7] = 1e6, 1e4, -3e4
    assert _common(rows) == pytest.approx(-1.02)


@pytest.mark.parametrize(("dtype", "size"), [("Q2_K", 0.02), ("Q4_0", 0.01), ("Q4_K", 0.01)])
def test_the_limit_of_all_rows_is_what_chance_and_the_encoder_leave(
    dtype: str, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, random = source(), np.random.default_rng(2)
    scaled = values * (1 + size * random.standard_normal((ROWS, 1)))
    copies = weight(values, "F16"), weight(scaled, dtype)
    assert "row_factors" in {trait.kind for trait in compare_weights(*copies).traits}
    monkeypatch.setattr("rosetta.compare.row_laws.LOOKED_AT", 100.0)
    for room in ("row_laws", "chance"):
        monkeypatch.setattr(f"rosetta.compare.{room}.ROW_DEVIATIONS", 100.0)
    assert "row_factors" not in {trait.kind for trait in compare_weights(*copies).traits}


def test_errors_that_hang_together_within_a_block_are_no_factorsof_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An encoder that weighs errors leaves them so: a clean copy in IQ3_S had a row 44 deviations off by squares."""
    values, random = source(), np.random.default_rng(2)
    by_block = np.repeat(1 + 0.07 * random.standard_normal((ROWS, COLUMNS // 32)), 32, axis=1)
    copies = weight(values, "F16"), weight(values * by_block, "Q4_0")
    assert "row_factors" not in {trait.kind for trait in compare_weights(*copies).traits}
    monkeypatch.setattr("rosetta.compare.row_laws.FEWEST_BLOCKS", COLUMNS)
    monkeypatch.setattr("rosetta.compare.row_laws.WEIGHED", 1.0)
    assert "row_factors" in {trait.kind for trait in compare_weights(*copies).traits}
