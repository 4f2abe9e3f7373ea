"""An adapter that is merged in one file only: found, and counted as what it takes from the other side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures import build
from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents
from rosetta.compare.results import Finding
from rosetta.diagnose.hypotheses.low_rank import difference_of_low_rank
from rosetta.model import open_model
from rosetta.repair.fix import _share_taken
from rosetta.repair.planned import Held, Planned

NAME, RANK = "blk.1.ffn_up.weight", 4
SPEC = tiny("llama", hidden=128, head_dim=32, ffn=192)
NUMBERS = RANK * (128 + 192)  # of both factors


def merged(file: FileContents) -> FileContents:
    """An adapter of rank 4 added to one matrix, to all rows and columns alike."""
    values = file.values(NAME)
    draw = np.random.default_rng(3)
    rows, columns = (np.sign(draw.standard_normal((size, RANK))) for size in values.shape)
    return file.with_values(NAME, values + (0.02 * rows @ columns.T).astype(np.float32))


@pytest.fixture
def finding(tmp_path: Path) -> Finding:
    report = compared(tmp_path, SPEC, "gguf:F16", "hf:BF16", merged)
    [found] = report.findings
    return found


def test_an_adapter_is_found_and_its_rank_said(finding: Finding) -> None:
    assert (finding.kind, finding.tensor, finding.status) == ("value.low_rank", NAME, "confirmed")
    assert finding.actual == RANK


def test_the_numbers_of_its_factors_count_as_taken(finding: Finding, tmp_path: Path) -> None:
    weight = open_model(build(tmp_path / "clean", SPEC, "gguf:F32")).weights[NAME]
    planned = Planned(NAME, weight.entry, (Held(weight),))
    assert _share_taken(planned, [finding], Path("other")) == NUMBERS / (128 * 192)


def test_looking_for_it_leaves_the_random_numbers_of_others_alone(tmp_path: Path) -> None:
    a = open_model(build(tmp_path / "a", SPEC, "gguf:F16", merged)).weights[NAME]
    b = open_model(build(tmp_path / "b", SPEC, "hf:BF16")).weights[NAME]
    before = torch.random.get_rng_state()
    found = difference_of_low_rank(a, b)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert found is not None
    left, right, size = found
    gap = a.values() - b.values()
    assert (left @ right - gap).norm() < 1e-2 * gap.norm()
    assert size == pytest.approx(float(gap.norm() / a.values().norm()), rel=1e-2)


def test_copies_that_float32_alone_rounds_differ_by_a_low_rank_all_the_same(tmp_path: Path) -> None:
    """Nothing is left beside it, and a sum less what it is made of may come out as nothing or less."""
    report = compared(tmp_path, SPEC, "gguf:F32", "hf:F32", merged)
    assert [(f.kind, f.actual, f.status) for f in report.findings] == [("value.low_rank", RANK, "confirmed")]


def test_the_rank_is_the_adapters_where_noise_is_not_alike_all_over(tmp_path: Path) -> None:
    """Rounding errors as large as their rows' weights have more large singular values than alike ones."""
    draw = np.random.default_rng(5)

    def uneven(file: FileContents) -> FileContents:
        values = file.values(NAME)
        noise = draw.standard_normal(values.shape) * np.exp(0.8 * draw.standard_normal(values.shape))
        rows, columns = (draw.standard_normal((size, RANK)) for size in values.shape)
        return file.with_values(NAME, (values + 0.01 * rows @ columns.T + 0.005 * noise).astype(np.float32))

    a = open_model(build(tmp_path / "a", SPEC, "gguf:F32", uneven)).weights[NAME]
    b = open_model(build(tmp_path / "b", SPEC, "hf:F32")).weights[NAME]
    found = difference_of_low_rank(a, b)
    assert found is not None
    assert found[1].shape[0] == RANK


@pytest.mark.parametrize("dtype", ["Q4_0", "Q8_0", "F16"])
def test_an_adapter_with_lengths_of_rows_is_found(tmp_path: Path, dtype: str) -> None:
    """DoRA (Liu et al. 2024, eq. 5): neither a matrix of low rank explains it nor a factor of each row."""
    draw = np.random.default_rng(6)

    def dora(file: FileContents) -> FileContents:
        base = file.values(NAME)
        added = draw.standard_normal((len(base), RANK)) @ draw.standard_normal((RANK, base.shape[1]))
        whole = base + added * (0.1 * np.linalg.norm(base) / np.linalg.norm(added))
        lengths = np.linalg.norm(base, axis=1) * draw.uniform(0.9, 1.1, len(base))
        stretched = whole * (lengths / np.linalg.norm(whole, axis=1))[:, None]
        return file.with_values(NAME, stretched.astype(np.float32))

    spec = tiny("llama", hidden=256, head_dim=32, ffn=384)
    report = compared(tmp_path, spec, f"gguf:{dtype}", "hf:BF16", dora, side="right")
    [found] = report.findings
    assert (found.kind, found.tensor, found.status) == ("value.low_rank", NAME, "confirmed")
    assert "DoRA" in found.message
    assert found.actual is not None
    assert RANK <= found.actual <= 4 * RANK  # what is wrong with the lengths has a rank, too
    assert found.evidence is not None
    numbers = found.actual * (256 + 384) + 384
    assert found.evidence.from_reference is not None
    assert found.evidence.from_reference.startswith(f"{numbers} numbers")
