"""A fault that is smaller than the rounding of each weight shows in the sum over all of them; rounding does not."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fixtures.copies import COLUMNS, ROWS, Floats, bf16, decoded, source, weight
from fixtures.noise import gaussian, heavy_tailed
from rosetta.compare import spectrum
from rosetta.compare.spectrum import beyond_noise, largest_singular_value, rank_limit
from rosetta.compare.weights import compare_weights
from rosetta.weight import Weight

QUANTISED = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "Q4_1", "Q5_0", "Q3_K", "Q2_K", "IQ4_NL")


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
    plain = bf16(weight(values, first).values().numpy())
    return plain, weight(plain.values().numpy(), second)


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
