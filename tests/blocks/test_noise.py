"""The laws of docs/noise.md: σ predicts what quantising does, and a wrong block stands out where it can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures import ggml
from fixtures.noise import (
    FACTORS,
    Clean,
    activations,
    faulty_block_ratio,
    gaussian,
    heavy_tailed,
    measure,
)
from fixtures.quantize import quantize
from rosetta import blocks

Draw = Callable[[np.random.Generator, int, int], NDArray[np.float32]]
ROWS, COLUMNS = 256, 1024

# rms of the errors of all weights / rms of σ, lowest and highest over gaussian and heavy-tailed weights and
# both encoders; then the cuts: 99.9 % of the blocks, and the largest.
LAWS = {
    "F16":    (0.97, 1.03, 1.75, 2.0),
    "BF16":   (0.96, 1.03, 1.75, 2.0),
    "Q8_0":   (0.95, 1.00, 1.25, 1.5),
    "Q5_1":   (0.95, 1.00, 1.25, 1.5),
    "Q5_0":   (0.90, 1.01, 1.35, 1.6),
    "Q4_1":   (0.95, 1.00, 1.25, 1.5),
    "Q4_0":   (0.87, 1.02, 1.40, 1.7),
    "Q6_K":   (0.85, 0.93, 1.25, 1.6),
    "Q5_K":   (0.71, 0.86, 1.15, 1.4),
    "Q4_K":   (0.79, 0.88, 1.15, 1.4),
    "Q3_K":   (0.75, 0.99, 1.45, 1.9),
    "Q2_K":   (0.67, 0.89, 1.45, 2.8),
    "IQ4_NL": (0.81, 0.94, 1.20, 1.4),
    "IQ4_XS": (0.81, 0.94, 1.20, 1.4),
    "MXFP4":  (0.84, 0.93, 1.70, 2.0),
}  # fmt: skip
LARGEST_OUTPUT = 5.0  # of 13 × 256 outputs
# The smallest factor on the scale of a single block at which it stands above every clean block of a matrix;
# so does every larger one, and a changed sign (docs/noise.md has the whole table).
TOLD_FROM = {
    "Q8_0": 1.25, "Q5_1": 1.25, "Q5_0": 1.25, "Q4_1": 1.25, "Q4_0": 1.5, "Q6_K": 1.25, "Q5_K": 1.25,
    "Q4_K": 1.25, "Q3_K": 2.0, "Q2_K": 3.0, "IQ4_NL": 1.5, "IQ4_XS": 1.5,
}  # fmt: skip


@cache
def clean(dtype: str, encoder: str, draw_name: str) -> Clean:
    draw = {"gaussian": gaussian, "heavy-tailed": heavy_tailed}[draw_name]
    random = np.random.default_rng(1)
    values = draw(random, ROWS, COLUMNS)
    x, _ = activations(random, COLUMNS)
    raw = ggml.quantize(values, dtype) if encoder == "ggml" else quantize(values, dtype)
    return measure(values, raw, dtype, x)


def broken_laws(dtype: str, measured: Clean) -> list[str]:
    """Which laws the measurement breaks."""
    low, high, common, largest = LAWS[dtype]
    laws = {
        f"weights {measured.weights:.3f} not in {low} … {high}": low <= measured.weights <= high,
        f"stage rms {measured.stage_rms:.3f}": 0.93 * low <= measured.stage_rms <= 1.06 * high,
        f"largest output {measured.stage_largest:.2f} > {LARGEST_OUTPUT}": measured.stage_largest
        <= LARGEST_OUTPUT,
        f"99.9 % of blocks {measured.block_common:.2f} > {common}": measured.block_common <= common,
        f"largest block {measured.block_largest:.2f} > {largest}": measured.block_largest <= largest,
    }
    return [law for law, holds in laws.items() if not holds]


@pytest.mark.parametrize("draw", ["gaussian", "heavy-tailed"])
@pytest.mark.parametrize("dtype", LAWS)
def test_sigma_predicts_what_the_fixtures_encoders_do(dtype: str, draw: str) -> None:
    assert not broken_laws(dtype, clean(dtype, "fixtures", draw))


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("draw", ["gaussian", "heavy-tailed"])
@pytest.mark.parametrize("dtype", LAWS)
def test_sigma_predicts_what_ggmls_quantiser_does(dtype: str, draw: str) -> None:
    pytest.importorskip("llama_cpp")
    assert not broken_laws(dtype, clean(dtype, "ggml", draw))


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("dtype", LAWS)
def test_a_sigma_off_by_two_breaks_the_laws(dtype: str, factor: float) -> None:
    measured = clean(dtype, "fixtures", "gaussian")
    wrong = Clean(*(number / factor for number in astuple(measured)))
    assert len(broken_laws(dtype, wrong)) >= 2


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("draw", [gaussian, heavy_tailed])
@pytest.mark.parametrize("dtype", LAWS)
def test_a_skewed_importance_matrix_stays_within_the_stage_laws(dtype: str, draw: Draw) -> None:
    pytest.importorskip("llama_cpp")
    random = np.random.default_rng(5)
    values = draw(random, ROWS, COLUMNS)
    x, importance = activations(random, COLUMNS)
    measured = measure(values, ggml.quantize(values, dtype, importance), dtype, x)
    assert measured.stage_rms < 1.25
    assert measured.stage_largest < 8


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("dtype", ["IQ3_XXS", "IQ3_S", "IQ2_XXS"])
def test_codebooks_are_as_coarse_as_their_density_says(dtype: str) -> None:
    pytest.importorskip("llama_cpp")
    random = np.random.default_rng(1)
    values = gaussian(random, 16, COLUMNS)
    x, _ = activations(random, COLUMNS)
    measured = measure(values, ggml.quantize(values, dtype), dtype, x)
    assert 0.75 < measured.weights < 1.05
    assert measured.block_largest < 2


@pytest.mark.parametrize(
    ("dtype", "factor"), [(d, f) for d, least in TOLD_FROM.items() for f in FACTORS[FACTORS.index(least) :]]
)
def test_one_block_with_a_wrong_scale_stands_out(dtype: str, factor: float) -> None:
    random = np.random.default_rng(2)
    values = gaussian(random, 32, COLUMNS)
    raw = quantize(values, dtype)
    count = values.size // blocks.block_format(dtype).block_size
    cut = LAWS[dtype][3]
    for block in random.integers(0, count, 10):
        ratio = faulty_block_ratio(values, raw, dtype, int(block), factor)
        assert ratio > cut, f"block {block}: {ratio:.2f} is no more than a clean {cut}"


def test_the_right_block_does_not_stand_out() -> None:
    random = np.random.default_rng(2)
    values = gaussian(random, 32, COLUMNS)
    for dtype in ("Q8_0", "Q6_K", "Q4_K", "Q4_0"):
        assert faulty_block_ratio(values, quantize(values, dtype), dtype, 3, 1.0) < LAWS[dtype][3]
