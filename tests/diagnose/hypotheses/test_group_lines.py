"""Scales and minimums that do not belong together are a factor and an amount of each group, and no adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents

NAME = "blk.0.ffn_up.weight"
SPEC = tiny("llama", layers=1, hidden=256, ffn=512, heads=4, head_dim=64, tied=False)
GROUP = 32


def lines_of_groups(file: FileContents) -> FileContents:
    """Twice the values of each group, less its smallest one: scales that were doubled without their minimums, and
    decoded to floats since."""
    values: Any = file.values(NAME)
    groups = values.reshape(len(values), -1, GROUP)
    changed = 2 * groups - groups.min(axis=2, keepdims=True)
    return file.with_values(NAME, changed.reshape(values.shape).astype(np.float32))


@pytest.mark.parametrize("beside", ["gguf:Q8_0", "gguf:Q4_K"])
def test_a_factor_and_an_amount_of_each_group(tmp_path: Path, beside: str) -> None:
    report = compared(tmp_path, SPEC, "hf:BF16", beside, lines_of_groups)
    assert_proven(report, "layers.0.ffn_up", Cause("value.scaled", NAME))
    (found,) = report.findings
    assert found.actual == pytest.approx(2, rel=0.02)
    assert "each group of 32 columns" in found.message


@pytest.mark.parametrize("size", [0.1, 0.5])
def test_weights_of_another_training_are_no_lines(tmp_path: Path, size: float) -> None:
    def trained_on(file: FileContents) -> FileContents:
        values: Any = file.values(NAME)
        more = np.random.default_rng(4).standard_normal(values.shape, dtype=np.float32)
        return file.with_values(NAME, values + np.float32(size * values.std()) * more)

    report = compared(tmp_path, SPEC, "hf:BF16", "gguf:Q8_0", trained_on)
    assert {finding.kind for finding in report.findings} == {"value.other_weights"}
