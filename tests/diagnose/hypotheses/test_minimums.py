"""Scales and minimums of blocks that do not belong together are two numbers for a tensor, whatever is beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents
from fixtures.faults import Fault
from rosetta import blocks

NAME = "blk.0.ffn_up.weight"
SPEC = tiny("llama", layers=1, hidden=256, ffn=512, heads=4, head_dim=64, tied=False)
# ggml-common.h: bytes of a block, and where `d` and `dmin` (or `m`) stand in it.
LAYOUTS = {
    "Q4_1": (20, 0, 2),
    "Q5_1": (24, 0, 2),
    "Q4_K": (144, 0, 2),
    "Q5_K": (176, 0, 2),
    "Q2_K": (84, 80, 82),
}


def multiplied(scale: float, minimum: float) -> Fault:
    """The two float16 numbers of each block, times a factor each."""

    def fault(file: FileContents) -> FileContents:
        tensor = file.tensor(NAME)
        size, *starts = LAYOUTS[tensor.dtype]
        each = tensor.data.reshape(-1).view(np.uint8).reshape(-1, size).copy()
        for start, factor in zip(starts, (scale, minimum), strict=True):
            half = each[:, start : start + 2].copy().view(np.float16)
            each[:, start : start + 2] = (half * np.float16(factor)).view(np.uint8)
        return file.with_tensor(NAME, data=each.reshape(tensor.data.shape))

    return fault


@pytest.mark.parametrize("dtype", LAYOUTS)
def test_a_block_says_where_its_scale_and_its_minimum_are(dtype: str) -> None:
    size, *starts = LAYOUTS[dtype]
    assert (blocks.block_format(dtype).type_size, blocks.block_format(dtype).halves) == (size, tuple(starts))


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    "factors", [(2.0, 1.0), (0.5, 1.0), (1.1, 1.0), (1.0, 2.0), (1.0, -1.0), (1.0, 1.1), (2.0, 0.5)]
)
@pytest.mark.parametrize("dtype", LAYOUTS)
@pytest.mark.parametrize("beside", ["hf:BF16", "the same"])
def test_the_factor_of_each_is_found(
    tmp_path: Path, dtype: str, beside: str, factors: tuple[float, float]
) -> None:
    other = f"gguf:{dtype}" if beside == "the same" else beside
    report = compared(tmp_path, SPEC, f"gguf:{dtype}", other, multiplied(*factors))
    assert_proven(report, "layers.0.ffn_up", Cause("value.scaled", NAME))
    (found,) = report.findings
    wanted = factors[0] if factors[0] != 1 else factors[1]
    assert found.actual == pytest.approx(wanted, rel=0.02)
    assert "its scales and its minimums do not belong together" in found.message
    assert found.evidence.from_reference is None


@pytest.mark.parametrize("dtype", ["Q2_K", "Q4_K"])
def test_one_factor_of_both_is_one_of_the_weight(tmp_path: Path, dtype: str) -> None:
    report = compared(tmp_path, SPEC, f"gguf:{dtype}", "hf:BF16", multiplied(2.0, 2.0))
    (found,) = report.findings
    assert (found.kind, found.message) == ("value.scaled", found.message)
    assert "times what the other side holds" in found.message
