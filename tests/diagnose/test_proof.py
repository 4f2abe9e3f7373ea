"""A repair proves something where values were wrong without it and are right with it, more often than by chance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rosetta.diagnose.patches import in_memory
from rosetta.diagnose.proof import no_proof, takes_back

RANDOM = torch.Generator().manual_seed(3)
TRUTH = torch.randn(64, 64, generator=RANDOM)
NOISE = torch.randn(64, 64, generator=RANDOM) * 0.1


def why(stored: Tensor, mended: Tensor, truth: Tensor = TRUTH) -> str | None:
    return no_proof(*(in_memory("w", x) for x in (stored, mended, truth)))


@pytest.mark.parametrize(
    ("stored", "mended"),
    [
        (TRUTH * 2, TRUTH),
        (TRUTH + 1 + NOISE, TRUTH + NOISE),
        (TRUTH * 1.05 + NOISE, TRUTH + NOISE),  # less than the noise of a single value
        (TRUTH.flip(0), TRUTH),
        (torch.full_like(TRUTH, torch.nan), TRUTH),
    ],
    ids=["factor", "amount", "beneath the noise", "order", "not a number"],
)
def test_true_cause_proves_itself(stored: Tensor, mended: Tensor) -> None:
    assert why(stored, mended) is None


def test_a_few_values_are_enough_where_they_become_equal() -> None:
    few = TRUTH[0, :6]
    assert why(few + 1, few, few) is None
    assert why(few + 1, few + torch.tensor([1, -1, 1, -1, 1, -1]), few) is not None


def test_repair_that_changes_no_value_proves_nothing() -> None:
    assert why(TRUTH + NOISE, TRUTH + NOISE) == "it changes no value"


def test_other_rounding_of_the_same_values_proves_nothing() -> None:
    """Bytes read as a dtype whose levels are nearly the same agree as well as they did before."""
    assert "farther" in str(why(TRUTH + NOISE, TRUTH + NOISE.flip(0)))


def test_repair_that_leads_elsewhere_proves_nothing() -> None:
    assert "farther" in str(why(TRUTH.flip(0), TRUTH.flip(1)))


def test_second_repair_that_undoes_the_first_is_told() -> None:
    stored, once, other = (in_memory("w", x) for x in (TRUTH, TRUTH + 1, TRUTH + 1 + NOISE))
    assert takes_back(stored, once, in_memory("w", TRUTH + NOISE))
    assert not takes_back(stored, once, other)
