"""What two copies of a matrix were decoded into is used again, is right, and is bounded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.comparing import compared_files, tiny
from fixtures.memory import weight_of
from fixtures.pairs import pair
from rosetta.compare.weights import compare_weights
from rosetta.same_weights import same_bytes
from rosetta.weight import Weight, row_ranges
from rosetta.weight_cache import DecodedPair, Products, WeightCache, variance

DIMS = (24, 256)


def copy(name: str, dtype: str, seed: int = 0, dims: tuple[int, ...] = DIMS) -> Weight:
    values = np.random.default_rng(seed).standard_normal(dims, dtype=np.float32)
    return weight_of(values, dtype, name)


def holds(kept: DecodedPair, weight: Weight, start: int, stop: int) -> bool:
    """Whether the rows need not be decoded: they are one tensor, whoever asks."""
    return kept.values(weight, start, stop) is kept.values(weight, start, stop)


def test_what_a_comparison_decoded_is_kept_until_it_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rosetta.weight.WEIGHTS_AT_ONCE", 7 * 256)
    left, right, other, kept = copy("w", "F16"), copy("w", "Q8_0"), copy("w", "Q8_0", seed=1), DecodedPair()
    compare_weights(left, right, kept=kept)
    for rows in row_ranges(left):
        for weight in (left, right):
            assert holds(kept, weight, *rows)
            assert torch.equal(kept.values(weight, *rows), weight.values(*rows))
        explained = kept.variance(left, right, *rows)
        assert kept.variance(left, right, *rows) is explained
        assert torch.equal(explained, variance(left, right, *rows))
        assert not holds(kept, other, *rows)
        assert torch.equal(kept.values(other, *rows), other.values(*rows))
        assert kept.variance(right, left, *rows) is explained, "a variance has no sides"
    assert not holds(kept, left, 0, 3), "no rows of another cut"
    kept.clear()
    assert not holds(kept, left, *row_ranges(left)[0])


def test_the_next_matrix_takes_the_place_and_a_vector_does_not() -> None:
    first, second = (copy("w", "F16"), copy("w", "Q8_0")), (copy("v", "F16", 1), copy("v", "Q8_0", 1))
    kept = DecodedPair()
    compare_weights(*first, kept=kept)
    compare_weights(copy("b", "F16", dims=(24,)), copy("b", "F32", dims=(24,)), kept=kept)
    assert holds(kept, first[0], 0, 24)
    compare_weights(*second, kept=kept)
    assert not holds(kept, first[0], 0, 24)
    assert holds(kept, second[1], 0, 24)


def test_a_matrix_that_has_no_room_is_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rosetta.weight_cache.ROOM", 3 * 4 * 24 * 256 - 1)
    left, right, kept = copy("w", "F16"), copy("w", "Q8_0"), DecodedPair()
    compare_weights(left, right, kept=kept)
    assert not holds(kept, left, 0, 24)
    assert torch.equal(WeightCache(kept=kept).rows(left, 0, 24), left.values())


def test_the_cache_takes_what_is_kept() -> None:
    left, right, kept = copy("w", "F16"), copy("w", "Q8_0"), DecodedPair()
    compare_weights(left, right, kept=kept)
    rows = WeightCache(kept=kept).rows(right, 0, 24)
    assert rows is kept.values(right, 0, 24)
    assert torch.equal(rows, right.values())


def test_matrices_of_two_dtypes_are_decoded_once_a_side_with_the_same_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pair(tmp_path, tiny("llama"), "hf:F16", "gguf:Q8_0")
    decoded: Counter[tuple[Any, ...]] = Counter()
    values = Weight.values

    def counted(self: Weight, *args: Any, **named: Any) -> torch.Tensor:
        decoded[self.container.kind, self.name, args[:2]] += 1
        return values(self, *args, **named)

    monkeypatch.setattr(Weight, "values", counted)

    def most() -> int:
        matrices = [count for (_, name, _), count in decoded.items() if ".attn_q." in name or ".ffn_" in name]
        return max(matrices)

    once = compared_files(*files)
    assert most() == 1
    decoded.clear()
    monkeypatch.setattr("rosetta.compare.pair.expect_products", lambda *_: None)
    assert compared_files(*files).stages == once.stages, (
        "products of rows at hand are those of the stage by itself"
    )
    assert most() == 1, "they were kept"
    decoded.clear()
    monkeypatch.setattr("rosetta.weight_cache.ROOM", 0)
    assert compared_files(*files).stages == once.stages
    assert most() > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_a_matrix_whose_products_are_awaited_these_are_made_and_nothing_is_kept(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rosetta.weight.WEIGHTS_AT_ONCE", 7 * 256)
    left, right, cache = copy("w", "F16"), copy("w", "Q8_0"), WeightCache(dtype=dtype)
    x, other = (torch.randn(3, 256, dtype=dtype, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    cache.kept.expect(Products(left, right, x, [x, other]))
    compare_weights(left, right, kept=cache.kept)
    for weight, inputs in ((left, [x]), (right, [x, other])):
        assert not holds(cache.kept, weight, *row_ranges(left)[0])
        for given in inputs:
            made = cache.product(weight, given)
            assert made is not None
            for rows in row_ranges(left):
                expected = torch.nn.functional.linear(given, weight.values(*rows).to(dtype))
                assert torch.equal(made[:, slice(*rows)], expected)
    assert cache.product(left, other) is None, "nobody multiplies it with the other's input"
    assert cache.product(right, x.clone()) is None, "it is not known of equal inputs that they are"
    explained = cache.kept.explained(left, right, x)
    assert explained is not None
    assert torch.allclose(explained, x.float().square() @ variance(left, right).T, rtol=1e-5)
    assert cache.kept.explained(left, right, other) is None
    for rows in row_ranges(left):
        for weight in (left, right):
            assert cache.largest(weight, *rows) == weight.values(*rows).abs().max()
    cache.clear()
    compare_weights(left, right, kept=cache.kept)
    assert cache.product(left, x) is None, "the next stage expects its own"
    assert holds(cache.kept, left, *row_ranges(left)[0])


def test_of_copies_that_are_equal_nothing_is_made() -> None:
    left, right, kept = copy("w", "Q8_0"), copy("w", "Q8_0"), DecodedPair()
    x = torch.randn(3, 256)
    kept.expect(Products(left, right, x, [x]))
    assert compare_weights(left, right, kept=kept).identical_bytes
    assert kept.product(left, x) is None
    assert kept.explained(left, right, x) is None
    assert kept.largest(left, (0, 24)) is None


def test_other_copies_than_those_that_were_expected_are_not_multiplied() -> None:
    left, right, kept = copy("w", "F16"), copy("w", "Q8_0"), DecodedPair()
    x = torch.randn(3, 256)
    kept.expect(Products(left, right, x, [x]))
    compare_weights(left, copy("w", "Q8_0", seed=1), kept=kept)
    assert kept.product(left, x) is None


def test_a_sample_has_the_rows_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rosetta.weight.WEIGHTS_AT_ONCE", 7 * 256)
    left, right, kept = copy("w", "F16"), copy("w", "Q8_0"), DecodedPair()
    rows = torch.tensor([0, 6, 7, 8, 20, 23])
    kept.start(left, right, rows)
    for part in row_ranges(left):
        kept.put(part, left.values(*part), right.values(*part), variance(left, right, *part))
    sample = kept.sample
    assert sample is not None
    for weight in (left, right):
        assert torch.equal(sample.of(weight), weight.values()[rows])
    assert torch.equal(sample.variance, variance(left, right)[rows])


def test_equal_bytes_are_read_once_for_both_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rosetta.weight.WEIGHTS_AT_ONCE", 7 * 256)
    left, right = copy("w", "Q8_0"), copy("w", "Q8_0")
    kept = DecodedPair()
    assert same_bytes(left, right, kept.reads(left, right))
    expected = {rows: right.values(*rows) for rows in row_ranges(right)}
    monkeypatch.setattr(Weight, "_read", None)  # nothing is read any more
    for rows, values in expected.items():
        for weight in (left, right):
            assert torch.equal(kept.values(weight, *rows), values)


def test_a_matrix_without_room_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = copy("w", "Q8_0"), copy("w", "Q8_0")
    monkeypatch.setattr("rosetta.weight_cache.STORED_ROOM", left.nbytes - 1)
    assert DecodedPair().reads(left, right) is None


def test_rows_that_pass_are_those_of_the_weight_in_every_precision() -> None:
    weight = copy("w", "Q8_0")
    for dtype in (torch.float32, torch.float64):
        cache = WeightCache(dtype=dtype)
        for rows in ((0, 5), (5, 24), (1, 3)):
            passing = cache.passing(weight, *rows)
            assert passing.dtype == dtype
            assert torch.equal(passing, weight.values(*rows).to(dtype))


def test_a_matrix_beside_an_observed_run_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, cache = copy("w", "Q8_0"), WeightCache()
    cache.kept.alone(weight)
    assert torch.equal(cache.passing(weight, 3, 9), weight.values(3, 9))
    assert cache.rows(weight, 3, 9) is cache.passing(weight, 3, 9)
    assert holds(cache.kept, weight, 0, 24)
    cache.clear()
    assert not holds(cache.kept, weight, 3, 9)
    monkeypatch.setattr("rosetta.weight_cache.DECODED_ROOM", 4 * 24 * 256 - 1)
    cache.kept.alone(weight)
    assert not holds(cache.kept, weight, 3, 9)
