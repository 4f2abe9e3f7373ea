"""One compiled pass over two copies sees what torch sees in many, of any numbers that a file may hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.dtypes import encode
from fixtures.memory import MemoryContainer
from fixtures.noise import heavy_tailed
from rosetta import kernels
from rosetta.compare.one_pass import OnePass
from rosetta.compare.row_sums import pass_over
from rosetta.compare.structure_sample import sampled_rows
from rosetta.compare.weights import WeightPair, common_group, compare_weights
from rosetta.dtypes import FLOATS
from rosetta.weight import Weight, row_ranges
from rosetta.weight_cache import DecodedPair, Products

pytest.importorskip("numba")
pytestmark = pytest.mark.timeout(600)  # the first of them compiles the loops

UNPACKED = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
ONE_ROUNDING = 2.0**-22  # of a float32, and that of a product whose factors come in another order
SUBNORMAL = 2.0**-126  # below it float32 has fewer bits
ROUNDING = 2e-6  # of sums of a few hundred float32, relative; 4e-7 was seen


@pytest.fixture(scope="module")
def loops() -> OnePass:
    return OnePass()


def copy(dtype: str, dims: tuple[int, int] = (37, 512), seed: int = 0, **changes: Any) -> Weight:
    values = heavy_tailed(np.random.default_rng(seed), *dims) * np.float32(0.05)
    return stored(dtype, encode(values, dtype), dims, **changes)


def stored(dtype: str, raw: Any, dims: tuple[int, int], **changes: Any) -> Weight:
    container = MemoryContainer(
        {}, {"w": (dtype, dims, np.ascontiguousarray(raw).view(np.uint8).reshape(-1))}
    )
    return Weight("w", container, container.tensors["w"], dtype, dims, **changes)


def assert_seen_alike(loops: OnePass, a: Weight, b: Weight) -> None:
    """Values bit for bit, the variance and sums within their rounding; NaN and infinite ones where torch has them."""
    rows, group = (0, a.dims[0]), common_group(a, b)
    proportional = {a.dtype, b.dtype} <= {*FLOATS}
    kept = DecodedPair()
    kept.start(a, b)
    found = loops.pass_over(a, b, rows, kept, group, proportional)
    values = a.values(), b.values()
    variance = a.variance().add_(b.variance())
    for own, like in zip(values, (kept.values(weight, *rows) for weight in (a, b)), strict=True):
        assert torch.equal(own.isnan(), like.isnan())
        assert torch.equal(own.nan_to_num(nan=0.0), like.nan_to_num(nan=0.0))
    explained = kept.variance(a, b, *rows)
    torch.testing.assert_close(explained, variance, rtol=ONE_ROUNDING, atol=0, equal_nan=True)
    expected = pass_over(*values, variance, group, proportional)
    for name in ("error", "explained", "size_a", "size_b", "spread"):
        own, like = getattr(found, name), getattr(expected, name)
        if like is not None:
            torch.testing.assert_close(own, like, rtol=ROUNDING, atol=SUBNORMAL, equal_nan=True, msg=name)
    for name in ("gap", "product"):  # which may cancel
        own, like = getattr(found, name), getattr(expected, name)
        if like is not None:
            rest = float(like.abs().nan_to_num(posinf=0.0).max()) * 1e-4
            torch.testing.assert_close(own, like, rtol=1e-4, atol=rest, equal_nan=True, msg=name)


@pytest.mark.parametrize("finer", ["F64", "F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("coarser", [*UNPACKED, "F16", "BF16", "IQ4_NL", "MXFP4"])
def test_sees_what_torch_sees(loops: OnePass, finer: str, coarser: str) -> None:
    if finer == "F64":
        values = np.random.default_rng(0).standard_normal((37, 512))
        assert_seen_alike(loops, stored("F64", values, (37, 512)), copy(coarser))
    else:
        assert_seen_alike(loops, copy(finer), copy(coarser, seed=1))


@pytest.mark.parametrize("columns", [1, 31, 32, 70, 96, 512])
@pytest.mark.parametrize("pair", [("BF16", "F16"), ("F32", "Q8_0"), ("F16", "Q4_K")])
def test_last_group_may_be_short_and_rows_may_be_filled_up(
    loops: OnePass, columns: int, pair: tuple[str, str]
) -> None:
    size = {"Q8_0": 32, "Q4_K": 256}.get(pair[1], 1)
    if columns % size:
        pytest.skip("such a file does not exist")
    assert_seen_alike(loops, *(copy(dtype, (5, columns), seed) for seed, dtype in enumerate(pair)))


@pytest.mark.parametrize("dtype", UNPACKED)
def test_any_bytes_are_read_alike(loops: OnePass, dtype: str) -> None:
    """Scales that are zero, subnormal, infinite or NaN among them."""
    like = copy(dtype)
    raw = np.random.default_rng(3).integers(0, 256, like.nbytes, dtype=np.uint8)
    assert_seen_alike(loops, copy("BF16"), stored(dtype, raw, like.dims))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_any_bits_of_a_float_are_read_alike(loops: OnePass, dtype: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint32).reshape(64, 1024)
    raw = bits << 16 | 0x1234 if dtype == "F32" else bits.astype(np.uint16)
    assert_seen_alike(loops, stored(dtype, raw, (64, 1024)), copy("Q8_0", (64, 1024)))


def test_layouts_that_no_loop_reads_are_decoded_by_torch(loops: OnePass) -> None:
    values = np.random.default_rng(0).standard_normal((64, 96), dtype=np.float32)
    turned = stored("BF16", encode(values, "BF16"), (64, 96), transposed=True)
    assert_seen_alike(loops, turned, copy("Q8_0", (96, 64)))


@pytest.mark.parametrize("tokens", [1, 3, 4, 9, 33])
@pytest.mark.parametrize("other_inputs", [1, 2])
def test_products_and_the_sample_are_those_of_the_decoded_rows(
    loops: OnePass, tokens: int, other_inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tokens than a loop multiplies with faster than a library among them."""
    monkeypatch.setattr("rosetta.weight.WEIGHTS_AT_ONCE", 9 * 512)
    a, b = copy("BF16"), copy("Q4_K")
    x, *of_other = (torch.randn(tokens, 512, generator=torch.Generator().manual_seed(s)) for s in range(3))
    of_other = of_other[:other_inputs]
    kept = DecodedPair()
    kept.expect(Products(a, b, x, of_other))
    compare_weights(a, b, kept=kept, loops=loops)
    for weight, given in [(a, x), *((b, own) for own in of_other)]:
        made = kept.product(weight, given)
        assert made is not None
        expected = given.double() @ weight.values().double().T
        assert float((made - expected).norm() / expected.norm()) < 1e-6
    explained = kept.explained(a, b, x)
    assert explained is not None
    variance = a.variance() + b.variance()
    torch.testing.assert_close(explained, x.square() @ variance.T, rtol=1e-5, atol=0)
    for rows in row_ranges(a):
        largest = kept.largest(a, rows)
        assert largest is not None
        assert float(largest) == float(a.values(*rows).abs().max())
    assert kept.sample is not None
    rows_of_sample = sampled_rows(a)
    assert rows_of_sample is not None
    for weight in (a, b):
        assert torch.equal(kept.sample.of(weight), weight.values()[rows_of_sample])
    torch.testing.assert_close(kept.sample.variance, variance[rows_of_sample], rtol=ONE_ROUNDING, atol=0)


def test_a_call_takes_more_rows_than_others_ask_for_where_none_are_kept(
    loops: OnePass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them at least; the largest magnitude of those that were asked for is known all the same."""
    for module in ("rosetta.weight", "rosetta.compare.one_pass"):
        monkeypatch.setattr(f"{module}.WEIGHTS_AT_ONCE", 4 * 512)
    a, b, x = copy("BF16"), copy("Q4_K"), torch.ones(1, 512)
    kept = DecodedPair()
    kept.start(a, b)
    assert loops.ranges(a, kept) == row_ranges(a)
    kept.expect(Products(a, b, x, [x]))
    found = compare_weights(a, b, kept=kept, loops=loops)
    assert loops.ranges(a, kept) == [(0, 19), (19, 37)]
    assert found.worst_block == compare_weights(a, b).worst_block
    magnitudes = a.values().abs()
    for start, stop in row_ranges(a):
        known = kept.largest(a, (start, stop))
        assert known is not None
        assert magnitudes[start:stop].max() <= known <= magnitudes.max()


def test_the_largest_magnitude_of_nan_is_nan(loops: OnePass) -> None:
    values = np.ones((4, 32), np.float32)
    values[1, 3], values[2, 5] = np.nan, np.inf
    a, b, kept, x = stored("F32", values, (4, 32)), copy("Q8_0", (4, 32)), DecodedPair(), torch.ones(1, 32)
    kept.expect(Products(a, b, x, [x]))
    compare_weights(a, b, kept=kept, loops=loops)
    largest = kept.largest(a, (0, 4))
    assert largest is not None
    assert math.isnan(float(largest))


def faulty(what: str, values: Any) -> Any:
    values = values.copy()
    if what == "nan":
        values[3, 40] = np.nan
    elif what == "infinite":
        values[3, 40] = np.inf
    elif what == "zeroed rows":
        values[5:9] = 0
    elif what == "scaled":
        values *= np.float32(1.25)
    elif what == "scaled beneath the noise":
        values *= np.float32(1.03)
    elif what == "offset":
        values += np.float32(0.02)
    elif what == "columns":
        values[:, 7] *= np.float32(1.3)
    return values


@pytest.mark.parametrize("dtype", ["BF16", "F16", "Q8_0", "Q6_K", "Q4_K", "Q2_K"])
@pytest.mark.parametrize(
    "what",
    ["clean", "nan", "infinite", "zeroed rows", "scaled", "scaled beneath the noise", "offset", "columns"],
)  # fmt: skip
def test_verdicts_are_torchs(loops: OnePass, dtype: str, what: str) -> None:
    values = heavy_tailed(np.random.default_rng(0), 64, 1024) * np.float32(0.05)
    a = stored("F32", values, values.shape)
    b = stored(dtype, encode(faulty(what, values), dtype), values.shape)
    own, like = compare_weights(a, b, loops=loops), compare_weights(a, b)
    assert (own.state, own.explained, own.worst_block) == (like.state, like.explained, like.worst_block)
    assert (own.salient is None) == (like.salient is None)
    if own.salient is not None and like.salient is not None:
        assert torch.equal(own.salient.columns, like.salient.columns)
        torch.testing.assert_close(own.salient.excess, like.salient.excess, rtol=ROUNDING, atol=0)
    assert [trait.kind for trait in own.traits] == [trait.kind for trait in like.traits]
    for name in ("worst_ratio", "rel_rmse", "predicted", "cosine", "widening"):
        assert_near(own, like, name)


def assert_near(own: WeightPair, like: WeightPair, name: str) -> None:
    mine, theirs = getattr(own, name), getattr(like, name)
    assert (mine is None) == (theirs is None), name
    if theirs is not None:
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-7, nan_ok=True), name


def test_levels_of_each_dtype_are_found() -> None:
    for dtype in UNPACKED:
        assert kernels.levels_of(dtype) is not None
    assert kernels.levels_of("IQ4_NL") is None


def test_inputs_of_another_width_are_no_loops() -> None:
    """They look at no bounds; torch says what is wrong."""
    a, b, x = copy("BF16"), copy("Q4_K"), torch.ones(4, 500)
    assert Products(a, b, torch.ones(4, 512), [torch.ones(4, 512)]).suits_loops
    assert not Products(a, b, x, [x]).suits_loops
    assert not Products(a, b, torch.ones(4, 512), [x]).suits_loops
