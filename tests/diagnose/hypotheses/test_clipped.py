"""Values cut off at a bound are described, whatever the file was rounded to, and nothing else is taken for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import build, faults
from fixtures.comparing import compared, compared_files, tiny
from fixtures.contents import FileContents

NAME, KIND = "blk.1.ffn_up.weight", "value.clipped"
SPEC = tiny("llama", hidden=256, head_dim=64, ffn=512)


def deviation(tmp_path: Path) -> float:
    """Of the weights that are cut off."""
    seen: list[float] = []

    def look(file: FileContents) -> FileContents:
        seen.append(float(file.values(NAME).std()))
        return file

    build(tmp_path, SPEC, "gguf:F32", look, stem="look")
    return seen[0]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("left", ["apr:F16", "hf:BF16", "gguf:Q8_0", "gguf:Q4_K"])
def test_what_lies_beyond_a_bound_is_counted_and_the_bound_is_named(
    tmp_path: Path, left: str, side: Any
) -> None:
    bound = 1.5 * deviation(tmp_path)
    report = compared(tmp_path, SPEC, left, left, faults.clipped(NAME, bound), side=side)
    [found] = report.findings
    assert (found.kind, found.tensor, found.side, found.status) == (KIND, NAME, side, "confirmed")
    assert found.actual == pytest.approx(bound, rel=0.02)
    assert found.evidence is not None
    assert found.evidence.from_reference is not None
    taken, count = int(found.evidence.from_reference.split()[0]), 512 * 256
    assert 0.12 * count < taken < 0.15 * count, "of a normal distribution 13.4 % lie beyond 1.5 deviations"


def test_one_end_alone_is_said_so(tmp_path: Path) -> None:
    bound = 1.2 * deviation(tmp_path)

    def from_above(file: FileContents) -> FileContents:
        return file.with_values(NAME, np.minimum(file.values(NAME), np.float32(bound)))

    [found] = compared(tmp_path, SPEC, "gguf:F32", "gguf:F16", from_above).findings
    assert (found.kind, found.actual) == (KIND, pytest.approx(bound, rel=1e-3))
    assert "±" not in found.message


@pytest.mark.parametrize("width", [256, 128])
@pytest.mark.parametrize("side", ["left", "right"])
def test_bounds_of_rows_and_of_groups_are_told(tmp_path: Path, width: int, side: Any) -> None:
    def by_group(file: FileContents) -> FileContents:
        grouped = file.values(NAME).reshape(-1, width)
        bound = np.abs(grouped).max(1, keepdims=True) * np.float32(0.6)
        return file.with_values(NAME, grouped.clip(-bound, bound).reshape(512, 256))

    [found] = compared(tmp_path, SPEC, "gguf:F32", "gguf:F16", by_group, side=side).findings
    assert (found.kind, found.tensor, found.side, found.status) == (KIND, NAME, side, "confirmed")
    assert ("each row is cut off" if width == 256 else "each group of 128 columns of a row") in found.message


def test_values_that_are_lost_one_in_a_row_are_cut_off_at_no_bound(tmp_path: Path) -> None:
    """Each row's largest value halved: what is the largest then is any value."""

    def halved(file: FileContents) -> FileContents:
        values = file.values(NAME)
        rows, places = np.arange(len(values)), np.abs(values).argmax(1)
        values[rows, places] /= 2
        return file.with_values(NAME, values)

    report = compared(tmp_path, SPEC, "gguf:F32", "gguf:F16", halved)
    assert KIND not in [found.kind for found in report.findings]


def test_a_single_value_that_float16_cannot_hold_is_told_by_its_end(tmp_path: Path) -> None:
    def large(file: FileContents) -> FileContents:
        values = file.values(NAME)
        values[7, 11] = 1e5
        return file.with_values(NAME, values)

    left = build(tmp_path, SPEC, "gguf:F16", [large, faults.clipped(NAME, 65504)], stem="left")
    [found] = compared_files(left, build(tmp_path, SPEC, "gguf:BF16", large, stem="right")).findings
    assert (found.kind, found.actual, found.status) == (KIND, 65504, "confirmed")
    assert "the largest that float16 holds" in found.message
    assert "1 of 131072 weights" in found.message


def test_a_few_large_values_that_are_lost_otherwise_are_damage(tmp_path: Path) -> None:
    """They are not alike: no bound made them."""

    def smaller(file: FileContents) -> FileContents:
        values = file.values(NAME)
        beyond = np.abs(values) > 2.5 * values.std()
        draw = np.random.default_rng(5).uniform(0.2, 0.9, values.shape)
        return file.with_values(NAME, np.where(beyond, values * draw, values).astype(np.float32))

    report = compared(tmp_path, SPEC, "gguf:F32", "gguf:F16", smaller)
    assert {found.tensor for found in report.findings} == {NAME}
    assert KIND not in {found.kind for found in report.findings}
