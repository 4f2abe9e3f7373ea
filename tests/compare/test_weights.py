"""Two copies of a weight: equal bytes, apart by what their dtypes explain, or different; and one wrong block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fixtures import faults, ggml
from fixtures.comparing import compared
from fixtures.dtypes import encode
from fixtures.memory import weight_of_bytes
from fixtures.noise import heavy_tailed
from fixtures.scales import scaled_block
from rosetta.compare.weights import WeightPair, compare_weights
from rosetta.weight import Weight

Floats = NDArray[np.float32]
QUANTISED = (
    "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"
)  # fmt: skip
BLOCK = 100  # of 32 weights, in a matrix of 64 × 256


def weight(dtype: str, raw: NDArray[np.uint8], dims: tuple[int, ...], **changes: Any) -> Weight:
    return weight_of_bytes(raw, dtype, dims, **changes)


def copy(values: Floats, dtype: str) -> Weight:
    return weight(dtype, encode(values, dtype), values.shape)


def matrix(seed: int = 0, rows: int = 64, columns: int = 256) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32) * np.float32(0.05)


def test_equal_bytes_are_identical() -> None:
    found = compare_weights(copy(matrix(), "Q4_K"), copy(matrix(), "Q4_K"))
    assert (found.state, found.identical_bytes, found.explained) == ("identical", True, False)


def test_equal_values_in_two_dtypes_are_identical_but_not_in_bytes() -> None:
    values = matrix().astype(np.float16).astype(np.float32)
    found = compare_weights(copy(values, "F16"), copy(values, "F32"))
    assert (found.state, found.identical_bytes) == ("identical", False)


@pytest.mark.parametrize(("reference", "size"), [("right", 3.0), ("left", 0.75)])
def test_difference_of_a_weight_is_relative_to_the_believed_side(
    tmp_path: Path, reference: str, size: float
) -> None:
    """Left holds 4w and right w: 3w of w where w is believed, of 4w where that is."""
    fault = faults.scaled("blk.0.ffn_up.weight", 4.0)
    report = compared(tmp_path, "llama", "apr:F32", "gguf:F32", fault, reference=reference)
    (row,) = report.weights.differing_tensors
    assert row.rel_rmse == pytest.approx(size, rel=1e-6)
    assert row.cosine == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", ["F16", "BF16", *QUANTISED])
def test_clean_copy_is_within_noise_and_its_numbers_are_numpys(dtype: str) -> None:
    values = matrix()
    raw = encode(values, dtype)
    found = compare_weights(copy(values, "F32"), weight(dtype, raw, values.shape))
    decoded = gguf.quants.dequantize(raw.reshape(64, -1), gguf.GGMLQuantizationType[dtype]).astype(np.float64)
    error = np.linalg.norm(decoded - values) / np.linalg.norm(values)
    assert (found.state, found.identical_bytes, found.explained) == ("within_noise", False, True)
    assert found.rel_rmse == pytest.approx(error, rel=1e-5)
    cosine = (decoded * values).sum() / np.linalg.norm(decoded) / np.linalg.norm(values)
    assert found.cosine == pytest.approx(cosine, rel=1e-6)
    assert found.predicted is not None
    assert 0.75 < error / found.predicted < 1.35, "the dtype's σ does not predict its error"


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("dtype", QUANTISED)
def test_copy_by_ggmls_own_quantiser_is_within_noise(dtype: str) -> None:
    pytest.importorskip("llama_cpp")
    values = matrix(1)
    importance = np.random.default_rng(2).lognormal(0, 1, values.shape[1]).astype(np.float32)
    for weights in (None, importance):
        raw = ggml.quantize(values, dtype, weights)
        assert compare_weights(weight(dtype, raw, values.shape), copy(values, "F32")).state == "within_noise"


# (dtype, log spread of the importance matrix): tails between a plain encoder's and the most skewed one's
MILDLY_WEIGHED = [
    *[(dtype, spread) for dtype in QUANTISED for spread in (0.5, 1.0)],
    ("Q6_K", 0.75), ("Q4_1", 1.25), ("Q4_1", 1.5), ("Q5_1", 1.25), ("Q5_1", 1.5),
]  # fmt: skip


@pytest.mark.sample(3)
@pytest.mark.requires_llamacpp
@pytest.mark.parametrize(("dtype", "spread"), MILDLY_WEIGHED)
def test_a_mildly_skewed_importance_matrix_is_no_fault(dtype: str, spread: float) -> None:
    """Every published quantisation with an importance matrix is such a one."""
    pytest.importorskip("llama_cpp")
    random = np.random.default_rng(7)
    values = heavy_tailed(random, 1024, 1024)
    importance = np.exp(random.normal(0, spread, 1024)).astype(np.float32)
    raw = ggml.quantize(values, dtype, importance)
    found = compare_weights(weight(dtype, raw, values.shape), copy(values, "F32"))
    assert found.state == "within_noise", f"worst block {found.worst_ratio:.2f} σ at {found.worst_block}"


@pytest.mark.parametrize(
    ("left", "right"), [("Q4_K", "Q8_0"), ("F16", "BF16"), ("Q6_K", "Q4_0"), ("Q8_0", "IQ4_NL")]
)
def test_both_sides_errors_add_up(left: str, right: str) -> None:
    found = compare_weights(copy(matrix(), left), copy(matrix(), right))
    assert found.state == "within_noise"
    assert found.rel_rmse is not None
    assert found.predicted is not None
    assert 0.75 < found.rel_rmse / found.predicted < 1.35


# What noise.md's measurements say can be told: eight bits by a quarter, six by half, four and fewer by a sign.
TELLABLE = [
    ("Q8_0", 1.25), ("Q8_0", -1.0), ("Q6_K", 1.5), ("Q6_K", 2.0), ("Q4_0", 3.0), ("Q4_0", -1.0), ("Q4_1", -1.0),
    ("Q5_0", 2.0), ("Q5_1", 2.0), ("Q5_0", -1.0), ("IQ4_NL", -1.0), ("IQ4_NL", 3.0), ("F16", 1.01), ("BF16", 1.25),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "factor"), TELLABLE)
def test_one_wrong_block_is_found_where_it_is(dtype: str, factor: float) -> None:
    values = matrix()
    raw = scaled_block(encode(values, dtype), dtype, BLOCK, factor)
    found = compare_weights(weight(dtype, raw, values.shape), copy(values, "F32"))
    assert found.state == "differing"
    assert found.worst_block is not None
    row, column = found.worst_block
    assert (row * 256 + column) // 32 == BLOCK
    assert found.worst_ratio > 3


@pytest.mark.parametrize("dtype", [*QUANTISED, "F16"])
@pytest.mark.parametrize("change", [1, 64])
def test_one_flipped_bit_between_two_copies_of_one_dtype_is_a_difference(dtype: str, change: int) -> None:
    values = matrix()
    raw = encode(values, dtype)
    other = raw.copy()
    other[len(raw) // 2 + 40] ^= change
    found = compare_weights(weight(dtype, raw, values.shape), weight(dtype, other, values.shape))
    if dtype == "F16":
        assert found.state in ("within_noise", "differing")
        return
    assert (found.state, found.explained, found.predicted) == ("differing", False, 0.0)


def test_two_quantisations_by_different_rules_are_explained() -> None:
    """Equal dtypes whose blocks differ nearly all come from two quantisers, not from a fault."""
    pytest.importorskip("llama_cpp")
    values = matrix()
    importance = np.random.default_rng(2).lognormal(0, 1, 256).astype(np.float32)
    plain, weighed = (ggml.quantize(values, "Q4_K", weights) for weights in (None, importance))
    found = compare_weights(weight("Q4_K", plain, values.shape), weight("Q4_K", weighed, values.shape))
    assert (found.state, found.explained) == ("within_noise", True)


@pytest.mark.parametrize(
    "broken",
    [
        lambda v: v.T.copy().reshape(v.shape), lambda v: -v, lambda v: v * np.float32(1.5), lambda v: v + np.float32(1),
        np.zeros_like, lambda v: np.roll(v, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("left", "right"), [("F16", "F32"), ("Q8_0", "F32"), ("Q4_K", "Q8_0")])
def test_wrong_tensor_differs(left: str, right: str, broken: Any) -> None:
    values = matrix()
    assert compare_weights(copy(broken(values), left), copy(values, right)).state == "differing"


def test_other_dims_differ_without_numbers() -> None:
    values = matrix()
    assert compare_weights(copy(values, "F16"), copy(values.reshape(256, 64), "F16")) == WeightPair(
        "differing"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_weight_on_one_side_differs(value: float) -> None:
    values = matrix()
    broken = values.copy()
    broken[3, 7] = value
    for a, b in ((broken, values), (values, broken)):
        found = compare_weights(copy(a, "F32"), copy(b, "F32"))
        assert found.state == "differing"
        assert found.worst_block == (3, 0)


def test_all_zero_copies_are_identical_and_one_sided_zeros_differ() -> None:
    zeros, values = np.zeros((4, 32), np.float32), matrix(0, 4, 32)
    assert compare_weights(copy(zeros, "F16"), copy(zeros, "F32")).state == "identical"
    assert compare_weights(copy(values, "F32"), copy(zeros, "F32")).state == "differing"


@pytest.mark.parametrize("dims", [(256,), (7, 5), (3, 33)])
def test_vectors_and_rows_of_no_whole_group_are_compared(dims: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(dims, dtype=np.float32)
    assert compare_weights(copy(values, "F16"), copy(values, "F32")).state == "within_noise"
    broken = values.copy()
    broken.reshape(-1)[-1] *= -1
    assert compare_weights(copy(broken, "F16"), copy(values, "F32")).state == "differing"


def test_large_matrix_is_compared_by_blocks_of_rows_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = matrix()
    raw = scaled_block(encode(values, "Q8_0"), "Q8_0", BLOCK, 2.0)
    pair = weight("Q8_0", raw, values.shape), copy(values, "F32")
    whole = compare_weights(*pair)
    monkeypatch.setattr("rosetta.weight.WEIGHTS_AT_ONCE", 5 * 256)
    parts = compare_weights(*pair)
    assert (parts.state, parts.worst_block, parts.worst_ratio) == (
        whole.state,
        whole.worst_block,
        whole.worst_ratio,
    )
    assert parts.rel_rmse == pytest.approx(whole.rel_rmse, rel=1e-9)


def test_transposed_copy_of_the_same_values_is_identical() -> None:
    values = matrix(0, 8, 32)
    turned = weight("F32", np.ascontiguousarray(values.T).view(np.uint8), (32, 8), transposed=True)
    assert compare_weights(turned, copy(values, "F32")).state == "identical"
    assert torch.equal(turned.values(), torch.from_numpy(values))
