"""Compiled loops over sampled rows give what torch gives, within float32's rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rosetta.blocks.fields import SQRT12
from rosetta.compare.columns import ColumnSums
from rosetta.compare.sample_loops import SampleLoops
from rosetta.compare.sampled_rows import Rows
from rosetta.compare.spectrum import beyond_noise, largest_singular_value

pytest.importorskip("numba")
pytestmark = pytest.mark.timeout(600)  # the first of them compiles the loops

ROUNDING = 1e-5  # of the largest; 2e-6 was seen


@pytest.fixture(scope="module")
def loops() -> SampleLoops:
    return SampleLoops()


def rows(count: int, columns: int) -> Rows:
    """Rounding errors of weights between a tenth of a step and a hundred."""
    g = torch.Generator().manual_seed(count)
    variance = torch.rand(count, columns, generator=g) + 0.5
    fine = torch.randn(count, columns, generator=g) * torch.logspace(-1, 2, columns)
    return Rows(fine, fine + torch.randn(count, columns, generator=g) * variance.sqrt(), variance)


def assert_alike(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected).abs().max()) <= ROUNDING * float(expected.abs().max())


@pytest.mark.parametrize(("shape", "group"), [((1, 1), 1), ((7, 33), 1), ((64, 512), 32), ((40, 1100), 55)])
def test_sums_of_columns_are_torchs(loops: SampleLoops, shape: tuple[int, int], group: int) -> None:
    some = rows(*shape)
    found, expected = ColumnSums.of(some, group, loops), ColumnSums.of(some, group)
    assert found.rows == expected.rows
    assert torch.equal(found.wide, (some.in_sigmas()[1].abs() >= SQRT12).sum(0))
    for name in ("size", "error", "product", "fitted", "mean", "all_errors", "weights"):
        assert_alike(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(("shape", "group"), [((64, 96), 32), ((40, 256), 16), ((33, 512), 256)])
@pytest.mark.parametrize("equal", ["none", "some", "a row"])
def test_errors_are_made_like_noise_as_torch_does(
    loops: SampleLoops, shape: tuple[int, int], group: int, equal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rosetta.compare.spectrum.SPARED", 0.0)  # of so few rows some stray far
    z, u, inverse = rows(*shape).in_sigmas()
    u += 9 * u.sign()
    if equal != "none":
        z[:, ::37] = 0.0
    if equal == "a row":
        z[5] = 0.0
    before = z.clone()
    expected = beyond_noise(z.clone(), u, inverse, group)
    found = beyond_noise(z, u, inverse, group, loops)
    assert torch.equal(z, before)
    assert_alike(found, expected)


@pytest.mark.parametrize("shape", [(64, 96), (200, 50)])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_largest_singular_value_is_torchs(loops: SampleLoops, shape: tuple[int, int], rank: int) -> None:
    g = torch.Generator().manual_seed(0)
    z = torch.randn(shape, generator=g)
    z += rank * torch.randn(shape[0], 1, generator=g) * torch.randn(1, shape[1], generator=g)
    found = largest_singular_value(z, loops)
    assert found == pytest.approx(largest_singular_value(z), rel=1e-4)
    unit = (shape[0] ** 0.5 + shape[1] ** 0.5) * float(z.square().mean().sqrt())
    largest = float(torch.linalg.matrix_norm(z.double(), 2)) / unit
    assert 0.95 * largest < found < 1.0001 * largest


@pytest.mark.parametrize("compiled", [False, True])
def test_rounding_beside_one_direction_is_no_direction(loops: SampleLoops, compiled: bool) -> None:
    z = torch.ones(8, 8)
    assert largest_singular_value(z, loops if compiled else None) == pytest.approx(2**0.5, rel=1e-5)
