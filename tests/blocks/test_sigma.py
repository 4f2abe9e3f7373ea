"""What σ is for each family, against the spacing of the values that the format can hold."""

from __future__ import annotations

import math

import gguf
import numpy as np
import pytest
import torch
from gguf import quants
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fixtures.noise import decoded
from fixtures.quantize import quantize
from rosetta import blocks

ROOT12 = math.sqrt(12)
WEIGHT_DTYPES = sorted(name for name, block in blocks.FORMATS.items() if block.write_sigma is not None)


def gaussian(rows: int, columns: int, scale: float = 0.02, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal((rows, columns)) * scale).astype(np.float32)


def sigma_of(raw: NDArray[np.uint8], dtype: str, dims: tuple[int, ...]) -> NDArray[np.float32]:
    return blocks.sigma(dtype, torch.from_numpy(raw.reshape(-1)), dims).numpy()


@pytest.mark.parametrize(("dtype", "numpy_dtype"), [("F16", np.float16), ("F32", np.float32)])
def test_sigma_of_floats_is_numpys_spacing(dtype: str, numpy_dtype: type[np.floating]) -> None:
    bits = np.random.default_rng(0).integers(0, 1 << (8 * np.dtype(numpy_dtype).itemsize), 4000)
    values = bits.astype(f"u{np.dtype(numpy_dtype).itemsize}").view(numpy_dtype)
    values = np.concatenate([values, np.array([0, -0.0, 1, -1, 2**-14, 2**-24, 1023.5], dtype=numpy_dtype)])
    values = values[np.isfinite(values)]
    values = values[np.abs(values) < np.finfo(numpy_dtype).max]  # numpy has no neighbour for the largest
    spacing = np.spacing(np.abs(values)).astype(np.float64)
    sigma = sigma_of(values.view(np.uint8), dtype, values.shape)
    held = spacing > 2.0**-125  # below, float32 cannot hold the spacing divided by √12 to all its digits
    np.testing.assert_allclose(sigma[held], spacing[held] / ROOT12, rtol=1e-6)
    assert (sigma > 0).all()


def test_sigma_of_bf16_is_half_the_distance_of_its_neighbours() -> None:
    codes = np.arange(0, 0x7F7F, dtype=np.uint16)
    both = np.stack([codes, codes + 1]).astype("<u2")
    values = quants.dequantize(both.view(np.uint8), gguf.GGMLQuantizationType.BF16).astype(np.float64)
    sigma = sigma_of(both[0].copy().view(np.uint8), "BF16", codes.shape)
    np.testing.assert_allclose(sigma, (values[1] - values[0]) / ROOT12, rtol=1e-3)


def test_f16_is_never_finer_than_its_subnormals() -> None:
    raw = np.array([0.0, 1e-7, -3e-6], dtype="<f2").view(np.uint8)
    np.testing.assert_allclose(sigma_of(raw, "F16", (3,)), 2.0**-24 / ROOT12, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "at"), [("Q8_0", 0), ("Q4_0", 0), ("Q5_0", 0), ("APR_Q4", 0), ("TQ2_0", 64)]
)
def test_sigma_of_even_levels_is_the_scale(dtype: str, at: int) -> None:
    raw = quantize(gaussian(4, 512), dtype)
    size = blocks.block_format(dtype).type_size
    scale = raw.reshape(-1, size)[:, at : at + 2].copy().view("<f2").astype(np.float64)
    expected = np.broadcast_to(np.abs(scale) / ROOT12, (len(scale), 2048 // len(scale))).reshape(4, 512)
    np.testing.assert_allclose(sigma_of(raw, dtype, (4, 512)), expected, rtol=0.01)


def test_sigma_of_apr_q8_is_the_scale_of_the_tensor() -> None:
    values = gaussian(4, 512)
    sigma = sigma_of(quantize(values, "APR_Q8"), "APR_Q8", (4, 512))
    np.testing.assert_allclose(sigma, np.abs(values).max() / 127 / ROOT12, rtol=1e-6)


def test_a_minimum_far_from_zero_adds_its_own_rounding() -> None:
    """Norm-like weights around 1 in Q4_1: the float16 minimum is coarser than the steps between levels."""
    values = 1 + gaussian(4, 512, 1e-4)
    values_back, sigma = decoded(quantize(values, "Q4_1"), "Q4_1", values.shape)
    step = (values.max() - values.min()) / 15
    assert float(sigma.min()) > 2 * step / ROOT12
    assert float((np.abs(values_back - values) / sigma).max()) < 4


def test_sigma_of_q4_k_joins_step_scale_and_minimum() -> None:
    raw = quantize(gaussian(2, 512), "Q4_K")
    superblocks = raw.reshape(-1, 144)
    d, dmin = (superblocks[:, at : at + 2].copy().view("<f2").astype(np.float64) for at in (0, 2))
    scales, _ = quants.Q4_K.get_scale_min(superblocks[:, 4:16].copy())
    nibbles = (
        superblocks[:, 16:].reshape(-1, 4, 1, 32) >> np.array([0, 4], dtype=np.uint8)[None, None, :, None]
    )
    levels = (nibbles & 15).reshape(-1, 8, 32)
    step = (d * scales)[..., None]
    variance = (step**2 + (d[..., None] * levels) ** 2 + dmin[..., None] ** 2) / 12
    sigma = sigma_of(raw, "Q4_K", (2, 512)).reshape(-1, 8, 32)
    np.testing.assert_allclose(sigma, np.sqrt(variance), rtol=0.02)


@pytest.mark.parametrize("dtype", ["IQ4_NL", "MXFP4", "NVFP4"])
def test_sigma_of_uneven_levels_is_what_rounding_to_them_does(dtype: str) -> None:
    """Values spread evenly over the levels and rounded to the nearest: their error, level by level."""
    kinds = {"IQ4_NL": quants.IQ4_NL.kvalues, "MXFP4": quants.MXFP4.kvalues, "NVFP4": quants.NVFP4.kvalues}
    levels = np.array(sorted(set(kinds[dtype])), dtype=np.float64)
    spread = np.linspace(levels[0], levels[-1], 200_001)
    nearest = np.abs(spread[:, None] - levels).argmin(axis=1)
    codes = np.array([kinds[dtype].index(int(level)) for level in levels], dtype=np.uint8)
    block = blocks.block_format(dtype)
    raw = np.zeros((len(codes), block.type_size), dtype=np.uint8)
    raw[:, block.type_size - block.block_size // 2 :] = (codes | codes << 4)[:, None]
    if dtype == "IQ4_NL":
        raw[:, :2] = np.array([1.0], dtype="<f2").view(np.uint8)
    elif dtype == "MXFP4":
        raw[:, 0] = 128  # 2^(128 − 127), halved
    else:
        raw[:, :4] = 0x40  # 2^(8 − 7), halved
    values, sigma = (
        a.reshape(len(codes), -1)[:, 0] for a in decoded(raw, dtype, (len(codes), block.block_size))
    )
    np.testing.assert_array_equal(values, levels)
    for i in range(1, len(levels) - 1):
        error = math.sqrt(float(np.mean((spread[nearest == i] - levels[i]) ** 2)))
        # Its scale has three bits of mantissa.
        scale_rounding = abs(levels[i]) * 0.125 / ROOT12 if dtype == "NVFP4" else 0.0
        assert float(sigma[i]) == pytest.approx(math.hypot(error, scale_rounding), rel=0.01), levels[i]


def test_a_smaller_scale_of_a_sub_block_means_a_smaller_sigma() -> None:
    values = gaussian(1, 256)
    values[:, :32] *= 0.1
    for dtype in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"):
        sigma = sigma_of(quantize(values, dtype), dtype, values.shape)
        assert float(sigma[0, :32].mean()) < 0.6 * float(sigma[0, 32:].mean()), dtype


@pytest.mark.sample(15)
@pytest.mark.parametrize("dtype", WEIGHT_DTYPES)
@settings(max_examples=30)
@given(data=st.data())
def test_sigma_is_a_positive_number_wherever_the_weight_is_finite(dtype: str, data: st.DataObject) -> None:
    size = blocks.nbytes(dtype, (256,))
    raw = data.draw(arrays(np.uint8, size))
    values, sigma = decoded(raw, dtype, (256,))
    at_finite = sigma[np.isfinite(values)]
    assert not np.isnan(at_finite).any()
    if dtype != "APR_Q8":  # its scale is a float32, which may be zero itself
        assert (at_finite > 0).all()


@pytest.mark.parametrize("magnitude", [1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize(
    "dtype", [d for d in WEIGHT_DTYPES if not d.startswith(("IQ1", "IQ2", "IQ3")) and d != "NVFP4"]
)
def test_sigma_explains_weights_of_any_magnitude(dtype: str, magnitude: float) -> None:
    """Scales that are subnormal, or rounded to zero, lose more than a step: σ must say so."""
    values = gaussian(8, 512, magnitude)
    values_back, sigma = decoded(quantize(values, dtype), dtype, values.shape)
    with np.errstate(invalid="ignore"):
        ratio = np.abs(values_back.astype(np.float64) - values) / sigma
    assert float(ratio.max()) < 4.5


@pytest.mark.parametrize("dtype", WEIGHT_DTYPES)
def test_variance_is_sigma_squared(dtype: str) -> None:
    raw = np.random.default_rng(6).integers(0, 120, blocks.nbytes(dtype, (64, 512)), dtype=np.uint8)
    sigma = sigma_of(raw, dtype, (64, 512))
    variance = blocks.variance(dtype, torch.from_numpy(raw), (64, 512)).numpy()
    held = (sigma > 2.0**-60) & (sigma < 2.0**60)  # whose square is a float32
    assert held.any()
    np.testing.assert_allclose(variance[held], sigma[held] ** 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", WEIGHT_DTYPES)
def test_values_and_variance_of_the_same_bytes_are_those_of_each_by_itself(dtype: str) -> None:
    size = blocks.nbytes(dtype, (64, 256))
    raw = torch.from_numpy(np.random.default_rng(2).integers(0, 256, size, dtype=np.uint8))
    values, variance = blocks.values_and_variance(dtype, raw, (64, 256))
    expected = blocks.variance(dtype, raw, (64, 256))
    assert torch.equal(values.nan_to_num(), blocks.decode(dtype, raw, (64, 256)).nan_to_num())
    assert torch.allclose(variance, expected, rtol=1e-6, atol=0, equal_nan=True)
    other = torch.full((64, 256), 0.5)
    _, total = blocks.values_and_variance(dtype, raw, (64, 256), other)
    assert total is other
    assert torch.allclose(total, expected + 0.5, rtol=1e-6, atol=0, equal_nan=True)
