"""The local error of a stage beside its prediction, and of one that is judged in parts."""

from __future__ import annotations

import math

import pytest
import torch

from rosetta.compare.local_error import ELEMENT_SIGMAS, STAGE_RMS, Sums, local_error


@pytest.mark.parametrize(
    ("gap", "sigma", "ratio"),
    [
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, ELEMENT_SIGMAS], [1.0, 1.0], ELEMENT_SIGMAS / math.sqrt(2) / STAGE_RMS),
        ([1.0] + [0.0] * 1023, [1.0 / ELEMENT_SIGMAS / 2] * 1024, 2.0),  # one element
        ([3.0 * STAGE_RMS] * 64, [1.0] * 64, 3.0),  # all of them a little
        ([2.0**-100, 0.0], [0.0, 1.0], math.inf),  # where nothing is explained, anything is a fault
        ([0.5, 0.5], [1.0, 1.0], 0.5 / STAGE_RMS),
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
    assert found.worst_ratio == pytest.approx(0.5 / STAGE_RMS)


def test_parts_add_up_to_the_whole() -> None:
    gap, sigma, reference = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(1)).unbind()
    whole = local_error([Sums.of(gap, sigma.abs(), reference)])
    parted = local_error([Sums.of(gap[n], sigma[n].abs(), reference[n]) for n in range(7)])
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
