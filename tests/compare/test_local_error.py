"""The local error of a stage beside its prediction, and of one that is judged in parts."""

from __future__ import annotations

import math

import pytest
import torch

from rosetta.compare.local_error import ELEMENT_SIGMAS, STAGE_RMS, Sums, local_error, rms_limit


@pytest.mark.parametrize(
    ("gap", "sigma", "ratio"),
    [
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, ELEMENT_SIGMAS], [1.0, 1.0], ELEMENT_SIGMAS / math.sqrt(2) / rms_limit(2)),
        ([1.0] + [0.0] * 1023, [1.0 / ELEMENT_SIGMAS / 2] * 1024, 2.0),  # one element
        ([3.0 * STAGE_RMS] * 64, [1.0] * 64, 3.0),  # all of them a little
        ([2.0**-100, 0.0], [0.0, 1.0], math.inf),  # where nothing is explained, anything is a fault
        ([0.5, 0.5], [1.0, 1.0], 0.5 / rms_limit(2)),
    ],
)
def test_worst_ratio_is_of_the_worst_element_or_of_the_whole(
    gap: list[float], sigma: list[float], ratio: float
) -> None:
    found = local_error([Sums.of(torch.tensor(gap), torch.tensor(sigma), torch.ones(len(gap)))])
    assert found.worst_ratio == pytest.approx(ratio, rel=1e-6)
    assert found.max_diff == max(gap)
    assert found.predicted_max_diff == pytest.approx(ELEMENT_SIGMAS * max(sigma), rel=1e-6)


def test_sigma_may_be_one_number_for_all() -> None:
    found = local_error([Sums.of(torch.full((4, 4), 0.5), torch.tensor(1.0), torch.ones(4, 4))])
    assert found.worst_ratio == pytest.approx(0.5 / rms_limit(4))


@pytest.mark.parametrize("outputs", [1, 2, 3, 8, 16, 40])
def test_chance_passes_the_limit_of_few_outputs_in_one_stage_of_a_million(outputs: int) -> None:
    """The tail of χ² by the incomplete gamma function; 1.5, which is the limit of many, one stage in ten may pass."""

    def chance(limit: float) -> float:
        half = torch.tensor([outputs / 2, outputs * limit**2 / 2], dtype=torch.float64)
        return float(torch.special.gammaincc(half[0], half[1]))

    assert 1e-7 < chance(rms_limit(outputs)) < 1.1e-6
    assert chance(STAGE_RMS) > 1e-5


def test_tokens_that_are_alike_are_no_further_outputs() -> None:
    """One head's weights err by twice what is predicted, and all tokens show the same: that is still one head's."""
    gap, sigma = torch.full((1000, 4), 2.0), torch.ones(1000, 4)
    assert local_error([Sums.of(gap, sigma, gap)]).worst_ratio == pytest.approx(2 / rms_limit(4))
    by_part = [Sums.of(gap[:, n : n + 2], sigma[:, n : n + 2], gap[:, :2]) for n in (0, 2)]
    assert local_error(by_part).worst_ratio == pytest.approx(2 / rms_limit(4))


def test_scores_count_their_tokens_second() -> None:
    """`[heads, T, T]`, which are judged some heads at a time."""
    gap = torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(1)) + 1
    whole = local_error([Sums.of(gap, gap, gap, 1)])
    parted = local_error([Sums.of(gap[n : n + 1], gap[n : n + 1], gap[n : n + 1], 1) for n in range(4)])
    assert parted.worst_ratio == pytest.approx(whole.worst_ratio, rel=1e-12)
    assert whole.worst_ratio == pytest.approx(1 / rms_limit(12), rel=0.2)


def test_a_prediction_may_be_as_large_as_floats_are() -> None:
    sigma = torch.full((8, 64), 3e38)
    assert local_error([Sums.of(torch.ones(8, 64), sigma, torch.ones(8, 64))]).worst_ratio < 1e-30


def test_a_loud_head_counts_for_what_it_brings() -> None:
    """Of 400 outputs four make up the stage."""
    sigma = torch.cat([torch.full((4,), 1000.0), torch.ones(396)])
    found = local_error([Sums.of(2 * sigma, sigma, sigma)])
    assert found.worst_ratio == pytest.approx(2 / rms_limit(4), rel=1e-3)


def test_parts_add_up_to_the_whole() -> None:
    gap, sigma, reference = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(1)).unbind()
    whole = local_error([Sums.of(gap, sigma.abs(), reference)])
    parted = local_error(
        [Sums.of(*(x[:, n : n + 1] for x in (gap, sigma.abs(), reference))) for n in range(5)]
    )
    for name, value in whole.model_dump().items():
        assert getattr(parted, name) == pytest.approx(value, rel=1e-12), name


def test_one_part_is_no_stage() -> None:
    """An rms beyond the limit in one part of ten is not beyond it in the whole."""
    ones = torch.ones(64)
    parts = [Sums.of(ones * (3 * STAGE_RMS if n == 0 else 0.1), ones, ones) for n in range(10)]
    assert local_error(parts[:1]).worst_ratio == pytest.approx(3)
    assert local_error(parts).worst_ratio < 1


def test_of_no_parts_it_is_exactly_nothing() -> None:
    assert set(local_error([]).model_dump().values()) == {0.0}


@pytest.mark.parametrize("predicted", [math.inf, math.nan])
def test_a_prediction_without_end_explains_nothing(predicted: float) -> None:
    """Of weights of 1e36, read in another byte order, the square of σ is no float."""
    found = local_error([Sums.of(torch.ones(4), torch.tensor(predicted), torch.ones(4))])
    assert found.worst_ratio == math.inf
    assert local_error([Sums.of(torch.zeros(4), torch.tensor(predicted), torch.ones(4))]).worst_ratio == 0
