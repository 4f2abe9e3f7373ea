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
BYTES = {"Q4_1": 20, "Q4_K": 144, "Q5_K": 176}  # of a block, which its scale stands at the head of


def scales_doubled(file: FileContents) -> FileContents:
    """Of the scale of a block's scales alone: not that of its minimums (ggml-quants.h, `d` and `dmin`)."""
    tensor = file.tensor(NAME)
    blocks = tensor.data.reshape(-1).view(np.uint8).reshape(-1, BYTES[tensor.dtype]).copy()
    blocks[:, :2] = (2 * blocks[:, :2].copy().view(np.float16)).view(np.uint8)
    return file.with_tensor(NAME, data=blocks.reshape(tensor.data.shape))


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("beside", ["hf:BF16", "the same"])
def test_scales_doubled_without_minimums(tmp_path: Path, dtype: str, beside: str) -> None:
    other = f"gguf:{dtype}" if beside == "the same" else beside
    report = compared(tmp_path, SPEC, f"gguf:{dtype}", other, scales_doubled)
    assert_proven(report, "layers.0.ffn_up", Cause("value.scaled", NAME))
    (found,) = report.findings
    assert found.actual == pytest.approx(2, rel=0.01)
    assert "each group of 32 columns" in found.message


@pytest.mark.parametrize("size", [0.1, 0.5])
def test_weights_of_another_training_are_no_lines(tmp_path: Path, size: float) -> None:
    def trained_on(file: FileContents) -> FileContents:
        values: Any = file.values(NAME)
        more = np.random.default_rng(4).standard_normal(values.shape, dtype=np.float32)
        return file.with_values(NAME, values + np.float32(size * values.std()) * more)

    report = compared(tmp_path, SPEC, "hf:BF16", "gguf:Q8_0", trained_on)
    assert {finding.kind for finding in report.findings} == {"value.other_weights"}
