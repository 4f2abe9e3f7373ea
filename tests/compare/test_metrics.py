"""Differences of two tensors, held to numpy in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rosetta.compare import metrics
from rosetta.compare.in_parts import InParts
from rosetta.compare.metrics import count_nonfinite, difference, ends, largest_gap, rms

VALUES = st.floats(-(2.0**50), 2.0**50, width=32, allow_subnormal=False)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:  # type: ignore[type-arg]
    """Two arrays of one shape, and the axis of their tokens."""
    tokens, axis = draw(st.integers(1, 4)), draw(st.integers(0, 1))
    shape = (draw(st.integers(1, 3)), tokens, tokens) if axis else (tokens, draw(st.integers(1, 5)))
    size = math.prod(shape)
    a, b = (
        np.array(draw(st.lists(VALUES, min_size=size, max_size=size)), np.float32).reshape(shape)
        for _ in range(2)
    )
    return a, b, axis


@given(pairs(), st.booleans())
def test_every_number_is_numpys(case: tuple[np.ndarray, np.ndarray, int], left_is_a: bool) -> None:  # type: ignore[type-arg]
    a, b, axis = case
    found = difference(torch.from_numpy(a), torch.from_numpy(b), left_is_a, axis)
    x, y = a.astype(np.float64), b.astype(np.float64)
    gap = np.abs(a - b).astype(np.float64)  # the difference of two float32 values is rounded once
    close = {"rel": 1e-9, "abs": 1e-300}
    assert found.max_diff == gap.max()
    assert found.mean_diff == pytest.approx(gap.mean(), **close)
    assert found.rms_diff == pytest.approx(np.sqrt((gap**2).mean()), **close)
    norm = np.linalg.norm(y)
    expected = np.linalg.norm(gap) / norm if norm else (np.inf if gap.any() else 0.0)
    assert found.rel_l2 == pytest.approx(expected, **close)
    if np.linalg.norm(x) and norm:
        assert found.cosine == pytest.approx((x * y).sum() / np.linalg.norm(x) / norm, rel=1e-9, abs=1e-9)
    other = tuple(n for n in range(a.ndim) if n != axis)
    assert found.by_token == gap.max(axis=other).tolist()
    at = tuple(found.worst.index)
    assert np.abs(a - b)[at] == gap.max()
    left, right = (a, b) if left_is_a else (b, a)
    assert (found.worst.left, found.worst.right) == (left[at], right[at])


def test_one_tensor_differs_from_itself_by_exactly_nothing() -> None:
    x = torch.randn(3, 4)
    found = difference(x, x, True)
    assert (found.max_diff, found.mean_diff, found.rms_diff, found.rel_l2, found.cosine) == (0, 0, 0, 0, 1)
    assert found.by_token == [0, 0, 0]
    assert found.worst.left == found.worst.right


@pytest.mark.parametrize(
    ("a", "b", "cosine", "rel_l2"),
    [
        ([0.0, 0.0], [0.0, 0.0], 1.0, 0.0),
        ([1.0, 0.0], [0.0, 0.0], 0.0, math.inf),
        ([0.0, 0.0], [1.0, 0.0], 0.0, 1.0),
        ([1.0, 0.0], [-1.0, 0.0], -1.0, 2.0),
    ],
)
def test_zeros_have_numbers_too(a: list[float], b: list[float], cosine: float, rel_l2: float) -> None:
    found = difference(torch.tensor([a]), torch.tensor([b]), True)
    assert (found.cosine, found.rel_l2) == (cosine, rel_l2)


def test_sums_are_accumulated_in_float64() -> None:
    x = torch.full((1, 1 << 20), 0.1)
    assert rms(x) == pytest.approx(float(np.float32(0.1)), rel=1e-12)
    assert rms(torch.empty(0)) == 0.0


def test_nan_and_infinities_are_counted() -> None:
    assert count_nonfinite(torch.tensor([1.0, math.nan, math.inf, -math.inf, 0.0])) == 3


def test_worst_positions_come_with_their_neighbours_in_the_row() -> None:
    left, right = torch.zeros(3, 6), torch.zeros(3, 6)
    left[1, 0], left[2, 3], right[0, 5] = 5.0, 7.0, 6.0
    found = difference(left, right, True).spots
    assert [(worst.index, worst.left, worst.right) for worst, _, _ in found] == [
        ([2, 3], 7.0, 0.0), ([0, 5], 0.0, 6.0), ([1, 0], 5.0, 0.0),
    ]  # fmt: skip
    assert found[0][1] == [0.0, 0.0, 7.0, 0.0, 0.0]
    assert found[1][2] == [0.0, 0.0, 6.0], "neighbours of the last column"
    assert found[2][1] == [5.0, 0.0, 0.0], "neighbours of the first column are not those of the row before"


def test_ends_are_the_first_and_last_values() -> None:
    assert ends(torch.arange(10.0).view(2, 5)) == ([0, 1, 2], [7, 8, 9])
    assert ends(torch.arange(2.0)) == ([0, 1], [0, 1])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("at_once", [1, 7, 64, 200])
def test_parts_of_a_large_tensor_add_up_to_the_whole(
    axis: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(axis)).unbind()
    whole = difference(a, b, True, axis)
    sizes = rms(a), count_nonfinite(a / (a > 0))
    monkeypatch.setattr(metrics, "VALUES_AT_ONCE", at_once)
    monkeypatch.setattr("rosetta.workers.VALUES_AT_ONCE", at_once)
    parted = difference(a, b, True, axis)
    assert (parted.max_diff, parted.by_token, parted.worst) == (whole.max_diff, whole.by_token, whole.worst)
    for name in ("mean_diff", "rms_diff", "rel_l2", "cosine"):
        assert getattr(parted, name) == pytest.approx(getattr(whole, name), rel=1e-13), name
    assert parted.spots == whole.spots
    assert (pytest.approx(rms(a), rel=1e-14), count_nonfinite(a / (a > 0))) == sizes


def test_the_first_of_equal_differences_is_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "VALUES_AT_ONCE", 2)
    a, b = torch.zeros(4, 2), torch.zeros(4, 2)
    a[1, 1] = a[3, 0] = 5.0
    assert difference(a, b, True).worst.index == [1, 1]


def test_a_stage_in_parts_is_judged_as_the_whole() -> None:
    whole = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(7)).unbind()
    heads = [range(2), range(2, 4), range(4, 5)]
    a, b = (InParts((5, 4, 4), heads, lambda some, x=x: x[some.start : some.stop], "cpu") for x in whole)  # type: ignore[misc]
    assert largest_gap(a, b) == largest_gap(*whole) == float((whole[0] - whole[1]).abs().max())
    assert rms(a) == pytest.approx(rms(whole[0]), rel=1e-14)
    assert ends(a) == ends(whole[0])
    found, expected = difference(a, b, False, 1), difference(*whole, False, 1)
    assert (found.by_token, found.worst, found.spots) == (expected.by_token, expected.worst, expected.spots)
    for name in ("max_diff", "mean_diff", "rms_diff", "rel_l2", "cosine", "size"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-13), name
    assert expected.size == pytest.approx(rms(whole[1]))


def test_one_stage_in_parts_differs_from_itself_by_exactly_nothing() -> None:
    x = torch.randn(3, 4, 4)
    one = InParts((3, 4, 4), [range(1), range(1, 3)], lambda some: x[some.start : some.stop], "cpu")
    assert difference(one, one, True, 1) == replace(
        difference(x, x, True, 1), scale=None
    )  # it is not computed for that
    assert largest_gap(one, one.to("cpu")) == 0
