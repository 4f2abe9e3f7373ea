"""A fault that is smaller than the rounding of each weight shows in the sum over all of them; rounding does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fixtures.noise import gaussian, heavy_tailed
from fixtures.quantize import quantize
from rosetta.compare import spectrum
from rosetta.compare.spectrum import (
    beyond_noise,
    edge_of,
    largest_singular_value,
    rank_limit,
    with_errors_of_their_own,
)
from rosetta.compare.structure import (
    ROW_LIKENESS,
    ROW_MEAN,
    RowSums,
    _common,
    _of_rows,
    pass_over,
    row_sums,
)
from rosetta.compare.weights import compare_weights
from rosetta.containers.container import TensorEntry
from rosetta.weight import Weight

Floats = NDArray[np.floating[Any]]
ROWS, COLUMNS = 384, 512
QUANTISED = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "Q4_1", "Q5_0", "Q3_K", "Q2_K", "IQ4_NL")


class Held:
    """A container of one tensor's bytes."""

    def __init__(self, raw: NDArray[np.uint8]) -> None:
        self.raw = raw

    def read(self, name: str, start: int = 0, nbytes: int | None = None) -> NDArray[np.uint8]:
        return self.raw[start : None if nbytes is None else start + nbytes]


def weight(values: Floats, dtype: str, name: str = "blk.0.attn_q.weight") -> Weight:
    if dtype == "F32":
        raw = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
    elif dtype == "F16":
        raw = values.astype(np.float16).reshape(-1).view(np.uint8)
    else:
        raw = quantize(np.ascontiguousarray(values, np.float32), dtype).reshape(-1)
    dims = tuple(values.shape)
    return Weight(name, Held(raw), TensorEntry(name, dtype, dims, raw.size), dtype, dims)  # type: ignore[arg-type]


def source(seed: int = 0, draw: Callable[..., Floats] = gaussian) -> Floats:
    return draw(np.random.default_rng(seed), ROWS, COLUMNS)


@pytest.mark.sample(5)
@pytest.mark.parametrize("draw", [gaussian, heavy_tailed], ids=["gaussian", "heavy-tailed"])
@pytest.mark.parametrize("dtype", [*QUANTISED, "F16"])
def test_rounding_has_no_structure(dtype: str, draw: Callable[..., Floats]) -> None:
    for seed in range(2):
        values = source(seed, draw)
        found = compare_weights(weight(values, "F32"), weight(values, dtype))
        assert (found.state, found.traits) == ("within_noise", ())


def again(values: Floats, first: str, second: str) -> tuple[Weight, Weight]:
    """A copy in the first dtype as a BF16 file holds it, and one encoded from that in the second."""
    once = weight(values, first)
    held = torch.from_numpy(once.values(0, ROWS, "cpu").numpy()).bfloat16()
    raw = held.view(torch.int16).numpy().reshape(-1).view(np.uint8)
    plain = Weight(
        once.name, Held(raw), TensorEntry(once.name, "BF16", once.dims, raw.size), "BF16", once.dims
    )  # type: ignore[arg-type]
    return plain, weight(held.float().numpy(), second)


@pytest.mark.sample(6)
@pytest.mark.parametrize("first", QUANTISED)
@pytest.mark.parametrize("second", QUANTISED)
def test_what_is_quantised_again_has_no_structure(first: str, second: str) -> None:
    """A block of few values is rounded alike wherever they stand, which has means, factors and ranks of its own."""
    values = source()
    values[:, 7] *= 20  # a massive column makes the steps of its block the same in all rows
    plain, quantised = again(values, first, second)
    for pair in ((plain, quantised), (weight(values, first), quantised)):
        assert compare_weights(*pair).traits == ()


def decoded(values: Floats, largest: int) -> Floats:
    """Codes up to the largest times the scale of their row, float32: as schemes of one scale a row are decoded."""
    scale = (np.abs(values).max(1, keepdims=True) / largest).astype(np.float32)
    return np.asarray(np.round(values / scale) * scale, np.float32)


def bf16(values: Floats) -> Weight:
    raw = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().reshape(-1).view(np.uint8)
    return Weight("w", Held(raw), TensorEntry("w", "BF16", values.shape, raw.size), "BF16", values.shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(384, 512), (2048, 256)], ids=["wide", "tall"])
@pytest.mark.parametrize("axis", ["row", "column", "matrix"])
def test_codes_of_eight_bits_have_no_structure_as_floats(axis: str, shape: tuple[int, int]) -> None:
    """Equal codes under one scale are off by the same, and all of them by one factor where it is nearly a float."""
    values = gaussian(np.random.default_rng(0), *shape)
    turned = {"row": values, "column": values.T, "matrix": values.reshape(1, -1)}[axis]
    held = decoded(turned, 127)
    held = np.ascontiguousarray(held.T if axis == "column" else held.reshape(shape))
    for copy in (bf16(held), weight(held, "F16")):
        for other in (weight(held, "F32"), weight(held, "F16"), weight(held, "Q8_0")):
            assert compare_weights(copy, other).traits == ()


def test_factors_of_rows_are_seen_above_codes_of_eight_bits() -> None:
    held = decoded(source(), 127)
    scaled = (held * (1 + 0.01 * np.random.default_rng(2).standard_normal((ROWS, 1)))).astype(np.float32)
    for dtype in ("Q8_0", "Q4_K", "Q4_0"):
        assert compare_weights(bf16(held), weight(scaled, dtype)).state == "differing"


def test_rows_as_large_as_others_all_have_errors_of_their_own() -> None:
    random = torch.Generator().manual_seed(0)
    z, u = (torch.randn(ROWS, COLUMNS, generator=random) for _ in range(2))
    z[5] *= 1e-4
    kept = with_errors_of_their_own(z, u, torch.ones_like(z), 32)
    assert (~kept).nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("dtype", ["Q4_0", "Q5_0"])
def test_levels_of_the_other_sign_are_clipped_by_one_sided_codes(dtype: str) -> None:
    held = np.sign(source()) * (np.abs(source()) > 0.015) * np.float32(0.03)
    assert compare_weights(bf16(held.astype(np.float32)), weight(held, dtype)).traits == ()
    faulty = compare_weights(bf16(held.astype(np.float32)), weight(held * np.float32(0.85), dtype))
    assert faulty.state == "differing"


@pytest.mark.parametrize(("first", "second"), [("Q4_0", "Q8_0"), ("Q4_1", "Q5_0"), ("Q5_0", "Q4_K")])
def test_an_adapter_that_what_is_quantised_again_lacks_is_seen(first: str, second: str) -> None:
    random = np.random.default_rng(5)
    adapter = random.standard_normal((ROWS, 16)) @ random.standard_normal((16, COLUMNS))
    plain, _ = again(source(), first, second)
    values = plain.values(0, ROWS, "cpu").numpy()
    adapter *= 0.03 * np.linalg.norm(values) / np.linalg.norm(adapter)
    assert compare_weights(plain, weight(values + adapter, second)).state == "differing"


@pytest.mark.parametrize("dtype", ["Q4_0", "Q4_K", "Q6_K"])
@pytest.mark.parametrize(("rank", "size"), [(1, 0.03), (8, 0.03), (16, 0.06), (64, 0.12)])
def test_adapter_beneath_the_noise_is_seen_as_rank(dtype: str, rank: int, size: float) -> None:
    random, values = np.random.default_rng(5), source()
    adapter = random.standard_normal((ROWS, rank)) @ random.standard_normal((rank, COLUMNS))
    adapter *= size * np.linalg.norm(values) / np.linalg.norm(adapter)
    found = compare_weights(weight(values + adapter, "F16"), weight(values, dtype))
    assert found.state == "differing"
    assert found.traits or (dtype, rank) in {("Q6_K", 16), ("Q6_K", 64)}, "their blocks show it by themselves"
    assert {trait.kind for trait in found.traits} >= ({"rank"} if found.traits else set())


def test_adapter_is_seen_in_a_part_of_a_large_matrix() -> None:
    random = np.random.default_rng(7)
    values = gaussian(random, 1024, 1536)
    adapter = random.standard_normal((1024, 16)) @ random.standard_normal((16, 1536))
    adapter *= 0.03 * np.linalg.norm(values) / np.linalg.norm(adapter)
    clean = compare_weights(weight(values, "F16"), weight(values, "Q4_0"))
    assert (clean.state, clean.traits) == ("within_noise", ())
    found = compare_weights(weight(values + adapter, "F16"), weight(values, "Q4_0"))
    assert [trait.kind for trait in found.traits] == ["rank"]


@pytest.mark.parametrize("factor", [0.97, 1.02, 1.05])
@pytest.mark.parametrize("dtype", ["Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0"])
def test_factor_beneath_the_noise_is_seen(dtype: str, factor: float) -> None:
    values = source()
    found = compare_weights(weight(values, "F16"), weight(values * factor, dtype))
    assert found.state == "differing"
    seen = {trait.kind: trait.value for trait in found.traits}
    by_blocks = dtype == "Q8_0" or (dtype, factor) == ("Q6_K", 1.05)
    assert seen or by_blocks, "its blocks do not show it by themselves"
    assert not seen or math.isclose(seen["factor"], factor, abs_tol=0.01)


def test_amount_beneath_the_noise_is_seen() -> None:
    values = source()
    found = compare_weights(weight(values, "F16"), weight(values + 0.02 * values.std(), "Q4_0"))
    assert "offset" in {trait.kind for trait in found.traits}


@pytest.mark.parametrize(("dtype", "size"), [("Q4_K", 0.05), ("Q4_0", 0.03), ("Q2_K", 0.05)])
def test_rows_with_factors_of_their_own_are_seen(dtype: str, size: float) -> None:
    values, random = source(), np.random.default_rng(2)
    scaled = values * (1 + size * random.standard_normal((ROWS, 1)))
    found = compare_weights(weight(values, "F16"), weight(scaled, dtype))
    assert "row_factors" in {trait.kind for trait in found.traits}


@pytest.mark.parametrize(("dtype", "size"), [("Q4_K", 0.02), ("Q4_0", 0.02), ("Q2_K", 0.1), ("Q2_K", 0.2)])
def test_columns_with_factors_of_their_own_are_seen(dtype: str, size: float) -> None:
    values, random = source(), np.random.default_rng(2)
    scaled = values * (1 + size * random.standard_normal((1, COLUMNS)))
    found = compare_weights(weight(values, "F16"), weight(scaled, dtype))
    assert "column_factors" in {trait.kind for trait in found.traits}


@pytest.mark.parametrize(("dtype", "larger"), [("IQ4_NL", 20), ("Q2_K", 4), ("Q6_K", 50), ("Q8_0", 50)])
def test_columns_that_make_up_their_blocks_shrink_with_them(dtype: str, larger: float) -> None:
    values = source(1)
    values[:, np.random.default_rng(109 + larger).choice(COLUMNS, 8, replace=False)] *= larger
    assert compare_weights(weight(values, "F32"), weight(values, dtype)).traits == ()


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
        return [trait.kind for trait in _of_rows(coarse, fine, sums, COLUMNS)]

    assert found(4, 3.0) == []
    assert found(16, 0.05) == ["row_offsets"]


def test_rows_that_are_written_several_times_are_one_witness(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Heads of k are, where each of q has its own: their errors are equal, and add up to no factor and no rank."""
    values = np.tile(source()[: ROWS // 4], (4, 1))
    copies = weight(values, "F16"), weight(values, "Q4_K")
    assert compare_weights(*copies).traits == ()
    monkeypatch.setattr("rosetta.compare.sampled_rows.Rows.unlike", lambda rows: rows)
    assert "column_factors" in {trait.kind for trait in compare_weights(*copies).traits}
    monkeypatch.setattr("rosetta.compare.structure_sample.factors_of_columns", lambda *_: [])
    assert "rank" in {trait.kind for trait in compare_weights(*copies).traits}


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
        return [trait.kind for trait in _of_rows(coarse, fine, sums, COLUMNS)]

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
    monkeypatch.setattr("rosetta.compare.structure.LOOKED_AT", 100.0)
    for room in ("structure", "chance"):
        monkeypatch.setattr(f"rosetta.compare.{room}.ROW_DEVIATIONS", 100.0)
    assert "row_factors" not in {trait.kind for trait in compare_weights(*copies).traits}


def test_errors_that_hang_together_within_a_block_are_no_factors_of_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An encoder that weighs errors leaves them so: a clean copy in IQ3_S had a row 44 deviations off by squares."""
    values, random = source(), np.random.default_rng(2)
    by_block = np.repeat(1 + 0.07 * random.standard_normal((ROWS, COLUMNS // 32)), 32, axis=1)
    copies = weight(values, "F16"), weight(values * by_block, "Q4_0")
    assert "row_factors" not in {trait.kind for trait in compare_weights(*copies).traits}
    monkeypatch.setattr("rosetta.compare.structure.FEWEST_BLOCKS", COLUMNS)
    monkeypatch.setattr("rosetta.compare.structure.WEIGHED", 1.0)
    assert "row_factors" in {trait.kind for trait in compare_weights(*copies).traits}


def test_largest_singular_value_is_that_of_svd() -> None:
    noise = torch.from_numpy(source()).float()
    spike = noise + 0.02 * torch.randn(ROWS, 1) @ torch.randn(1, COLUMNS)
    for z in (noise, spike):
        unit = edge_of(ROWS, COLUMNS, float(z.square().mean()))
        exact = float(torch.linalg.matrix_norm(z, 2)) / unit
        assert largest_singular_value(z) == pytest.approx(exact, rel=0.02 if z is spike else 0.08)


def test_size_of_a_row_tells_the_product_with_its_error() -> None:
    random = torch.Generator().manual_seed(1)
    b = torch.randn(64, 8960, generator=random)
    a = 0.999 * b + 0.005 * torch.randn(64, 8960, generator=random)
    explained, widths = (a - b).square(), torch.full((8960 // 32,), 32)
    sums = row_sums(pass_over(a, b, explained, 32, proportional=False), widths)
    exact = ((a.double() - b.double()) * b.double()).sum(1)
    assert float(((sums.product - exact).abs() / sums.spread.sqrt()).max()) < 0.5
    equal = row_sums(pass_over(b, b, explained, 32, proportional=False), widths)
    assert float((equal.product.abs() / equal.spread.sqrt()).max()) < 1


def test_of_a_large_matrix_only_the_sample_is_decoded_again(
    monkeypatch: pytest.MonkeyPatch, decoded_rows: list[int]
) -> None:
    """A table has no room to be kept; its second look reads some hundred rows, not all."""
    values = gaussian(np.random.default_rng(7), 65536, 64).astype(np.float32)
    pair = weight(values, "F16"), weight(values, "Q8_0")
    monkeypatch.setattr("rosetta.weight_cache.ROOM", 0)
    decoded_rows.clear()
    assert compare_weights(*pair).state == "within_noise"
    assert sum(decoded_rows) <= 2 * (65536 + 1024)


def test_limit_of_rank_is_above_what_random_matrices_have() -> None:
    for seed in range(20):
        z = torch.randn(64, 96, generator=torch.Generator().manual_seed(seed))
        exact = float(torch.linalg.matrix_norm(z, 2)) / edge_of(64, 96, 1.0)
        assert exact < rank_limit(64, 96)


def test_channels_that_share_the_scale_of_a_block_have_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """One scale that is fitted to two columns alone cannot serve both: what is over in one is under in the other."""
    random = torch.Generator().manual_seed(3)
    z, u = (torch.randn(4096, 512, generator=random) for _ in range(2))
    z[:, 40], z[:, 45] = z[:, 40] / 1.5, z[:, 45] / 20 - z[:, 40] / 1.5
    limit = rank_limit(4096, 512)

    def largest() -> float:
        return largest_singular_value(beyond_noise(z.clone(), 5 * u, torch.ones_like(u), 32))

    assert largest() < limit
    monkeypatch.setattr(spectrum, "SPARED", 0.0)
    assert largest() > limit


@pytest.mark.parametrize("channels", [(3, 9), (40, 45, 300)])
@pytest.mark.parametrize("dtype", ["Q2_K", "Q3_K", "Q4_0"])
def test_two_columns_of_nought_in_a_block_have_one_error(dtype: str, channels: tuple[int, ...]) -> None:
    """What reads massive channels is next to nought, and gets the level of its block that is nearest to that."""
    values = gaussian(np.random.default_rng(5), 4 * ROWS, COLUMNS)
    values[:, list(channels)] /= 128
    found = compare_weights(weight(values, "F32"), weight(values, dtype))
    assert (found.state, found.traits) == ("within_noise", ())
