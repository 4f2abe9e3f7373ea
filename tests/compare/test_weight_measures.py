"""How and where two copies of a weight differ: the spectrum of the difference, and a map of regions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures import faults
from fixtures.comparing import compared
from rosetta.compare.all_weights import MEASURED
from rosetta.compare.weight_measures.block_map import MOST_COLUMNS, MOST_ROWS
from rosetta.compare.weight_measures.block_map import Measure as BlockMap
from rosetta.compare.weight_measures.singular_values import MOST, SHOWN
from rosetta.compare.weight_measures.singular_values import Measure as Spectrum


def seen(measure: Any, a: torch.Tensor, b: torch.Tensor, at_once: int = 37) -> Any:
    """What a measure says of two matrices that it is shown some rows at a time."""
    for start in range(0, len(a), at_once):
        measure.add(start, a[start : start + at_once], b[start : start + at_once])
    return measure.result()


def noise(*dims: int) -> torch.Tensor:
    return torch.randn(*dims, generator=torch.Generator().manual_seed(len(dims)))


def test_the_spectrum_is_numpys_over_the_edge_of_noise() -> None:
    a, b = noise(90, 40), noise(90, 40).flip(0)
    gap = (a - b).double().numpy()
    edge = gap.std() * (np.sqrt(90) + np.sqrt(40))
    found = seen(Spectrum(90, 40), a, b)
    assert found == pytest.approx(list(np.linalg.svd(gap, compute_uv=False)[:SHOWN] / edge), rel=1e-3)


def test_a_difference_of_rank_three_has_three_values_however_large_it_is() -> None:
    rows, columns = 3 * MOST + 5, 2 * MOST + 1
    gap = noise(rows, 3) @ noise(3, columns)
    found = seen(Spectrum(rows, columns), gap, torch.zeros_like(gap), at_once=1000)
    assert found[2] > 1
    assert max(found[3:]) < 1e-3


def test_noise_stays_at_its_edge() -> None:
    found = seen(Spectrum(600, 700), noise(600, 700), torch.zeros(600, 700))
    assert 0.9 < found[0] < 1.1


def test_equal_copies_and_infinite_ones_have_no_spectrum() -> None:
    a = noise(20, 20)
    assert seen(Spectrum(20, 20), a, a) is None
    assert seen(Spectrum(20, 20), a * torch.inf, a) is None


def test_the_map_has_the_rms_of_each_region() -> None:
    rows, columns = 3 * MOST_ROWS + 1, 4 * MOST_COLUMNS - 2  # of 4 × 4, the last ones short
    a, b = noise(rows, columns), noise(rows, columns).flip(1)
    found = seen(BlockMap(rows, columns), a, b)
    assert (found.rows, found.columns, found.row_step, found.column_step) == (rows, columns, 4, 4)
    squares, size = (a - b).double().square(), a.double().square().mean()
    expected = [
        [float((squares[i : i + 4, j : j + 4].mean() / size).sqrt()) for j in range(0, columns, 4)]
        for i in range(0, rows, 4)
    ]
    assert np.array(found.values) == pytest.approx(np.array(expected), rel=1e-5)


def test_a_damaged_region_is_where_it_is(tmp_path: Path) -> None:
    fault = faults.block_scaled("blk.1.ffn_up.weight", 3.0)
    (weight,) = compared(tmp_path, "llama", "gguf:F32", "gguf:F32", fault).weights.differing_tensors
    assert weight.block_map is not None
    differing = [
        (i, j) for i, row in enumerate(weight.block_map.values) for j, value in enumerate(row) if value
    ]
    row, column = map(int, re.findall(r"row (\d+), column (\d+)", weight.note)[0])
    place = row // weight.block_map.row_step, column // weight.block_map.column_step
    assert place in differing
    assert {i for i, _ in differing} == {place[0]}
    assert weight.spectrum is not None
    assert weight.spectrum[1] < 1e-3 < 1 < weight.spectrum[0]  # one row of it


def test_only_the_worst_are_measured(tmp_path: Path) -> None:
    every = [faults.scaled(f"blk.{n}.{part}.weight", 1.01 + 0.01 * i) for n in range(2) for i, part in
             enumerate(("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"))]  # fmt: skip
    report = compared(tmp_path, "llama", "gguf:F32", "gguf:F32", every, diagnose=False)
    measured = {
        w.name: w.rel_rmse or 0.0 for w in report.weights.differing_tensors if w.block_map is not None
    }
    others = [w.rel_rmse or 0.0 for w in report.weights.differing_tensors if w.block_map is None]
    assert (len(measured), len(others)) == (MEASURED, 12 - MEASURED)
    assert min(measured.values()) >= max(others)
