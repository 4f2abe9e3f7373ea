"""Numbers for groups of a matrix: those of some groups only, and none where they explain nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures import build
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents
from fixtures.dtypes import encode
from fixtures.memory import weight_of_bytes
from fixtures.quantize import quantize
from rosetta.compare.kept_order import out_of_order
from rosetta.compare.weights import compare_weights
from rosetta.diagnose.hypotheses.cell_factors import _fitting, fitted_cells
from rosetta.model import open_model
from rosetta.weight import Weight

Floats = NDArray[np.float32]
ROWS, COLUMNS = 256, 384


def held(values: Floats, dtype: str) -> Weight:
    raw: NDArray[Any] = encode(values, dtype) if dtype in ("F32", "BF16") else quantize(values, dtype)
    return weight_of_bytes(raw, dtype, values.shape)


def drawn() -> Floats:
    return np.random.default_rng(1).standard_normal((ROWS, COLUMNS), dtype=np.float32) * np.float32(0.05)


def test_a_few_groups_that_are_each_off_by_one_amount_are_described() -> None:
    """Zero points of nought that were read as fifteen: every other group is right."""
    wrong = drawn()
    wrong[::7, 64:96] -= np.float32(0.2)
    assert _fitting(held(wrong, "F32"), held(drawn(), "F32")) == ("amount", 1, 32)


def test_amounts_of_groups_are_found_beside_floats_that_know_their_small_values_better() -> None:
    """An amount is known to the mean of its group's rounding; of a value near nought that is many times its own."""
    amounts = np.random.default_rng(3).uniform(0.01, 0.03, (ROWS, COLUMNS // 128)).astype(np.float32)
    wrong = drawn() + amounts.repeat(128, axis=1)
    assert _fitting(held(wrong, "F32"), held(drawn(), "BF16")) == ("amount", 1, 128)


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


@pytest.mark.parametrize("dtype", ["Q4_0", "Q4_K"])
def test_factors_smaller_than_the_noise_of_a_value_are_named(tmp_path: Path, dtype: str) -> None:
    """Their errors sum up: each was called other weights, for the difference hardly shrinks without them."""
    name, spec = "blk.1.ffn_up.weight", tiny("llama", hidden=256, head_dim=64, ffn=512)
    draw = np.random.default_rng(7)

    def stretched(file: FileContents) -> FileContents:
        values = file.values(name)
        each = 1 + 0.07 * draw.standard_normal((len(values), 1))
        return file.with_values(name, (values * each).astype(np.float32))

    report = compared(tmp_path, spec, f"gguf:{dtype}", "hf:BF16", stretched)
    assert_proven(report, "layers.1.ffn_up", Cause("value.scaled", name))
    assert "each row is multiplied" in report.findings[0].message


@pytest.mark.parametrize("size", [0.03, 0.06])
def test_so_are_those_of_columns_which_put_the_levels_in_order_again(size: float) -> None:
    each = 1 + size * np.random.default_rng(2).standard_normal((1, COLUMNS))
    left, right = held((drawn() * each).astype(np.float32), "Q4_0"), held(drawn(), "BF16")
    assert _fitting(left, right) == ("factor", ROWS, 1)
    mended = replace(left, values_edits=(fitted_cells(left, right, "factor", ROWS, 1),), repaired=True)
    assert compare_weights(right, mended).state == "within_noise"
    assert 20 * out_of_order(mended, right)[0] <= out_of_order(left, right)[0]


@pytest.mark.parametrize("dtype", ["Q4_0", "Q4_K", "Q2_K", "Q8_0"])
def test_no_cut_fits_a_clean_copy(tmp_path: Path, dtype: str) -> None:
    spec = tiny("llama", hidden=256, head_dim=64, ffn=512)
    left, right = (
        open_model(build(tmp_path / x.replace(":", ""), spec, x)) for x in (f"gguf:{dtype}", "hf:BF16")
    )
    for name in ("blk.0.attn_q.weight", "blk.1.ffn_up.weight", "blk.1.ffn_down.weight"):
        assert _fitting(left.weights[name], right.weights[name]) is None


def test_amounts_of_rows_are_no_adapter_of_rank_one(tmp_path: Path) -> None:
    """Rows whose mean was taken off, as tools that look into models store them; in F32 what is left of an amount is
    more than what a value near nought is rounded by."""

    def centred(file: FileContents) -> FileContents:
        values = file.values("token_embd.weight")
        return file.with_values("token_embd.weight", values - values.mean(1, keepdims=True))

    report = compared(
        tmp_path, tiny("llama", hidden=256, head_dim=64, tied=False), "hf:F32", "gguf:F32", centred
    )
    assert_proven(report, "embedding", Cause("value.offset", "token_embd.weight"))


@pytest.mark.parametrize("dtype", ["Q2_K", "Q4_K", "Q8_0"])
def test_rows_that_were_brought_to_one_length_are_no_factor_of_all(tmp_path: Path, dtype: str) -> None:
    """Their factors are within a tenth of each other, which hides beneath the rounding of each value."""
    name = "blk.0.ffn_up.weight"

    def to_one_length(file: FileContents) -> FileContents:
        values: Any = file.values(name)
        return file.with_values(
            name, (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
        )

    spec = tiny("llama", layers=1, hidden=256, ffn=512, heads=4, head_dim=64, tied=False)
    report = compared(tmp_path, spec, f"gguf:{dtype}", "hf:BF16", to_one_length)
    assert_proven(report, "layers.0.ffn_up", Cause("value.scaled", name))
    (found,) = report.findings
    assert "each row is multiplied by a factor of its own" in found.message
    assert "all rows of it have the length 1" in found.message


@pytest.mark.parametrize(("dtype", "size"), [("Q2_K", 0.03), ("Q3_K", 0.03), ("Q4_0", 0.015), ("Q4_K", 0.01)])
def test_factors_of_rows_beneath_few_bits_are_named(tmp_path: Path, dtype: str, size: float) -> None:
    name = "blk.0.ffn_up.weight"

    def with_factors(file: FileContents) -> FileContents:
        values: Any = file.values(name)
        factors = 1 + size * np.random.default_rng(3).standard_normal((len(values), 1))
        return file.with_values(name, (values * factors).astype(np.float32))

    spec = tiny("llama", layers=1, hidden=512, ffn=1024, heads=8, head_dim=64, tied=False)
    report = compared(tmp_path, spec, f"gguf:{dtype}", "hf:BF16", with_factors)
    (found,) = report.findings
    assert (found.kind, found.tensor, found.side, found.status) == ("value.scaled", name, "left", "confirmed")
    assert "each row is multiplied by a factor of its own" in found.message
