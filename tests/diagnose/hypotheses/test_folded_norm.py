"""A norm's factors that stand in the matrices behind it are no damage: both sides compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents

SPEC = tiny("llama", tied=False)
NORM = "blk.1.attn_norm.weight"
READERS = tuple(f"blk.1.attn_{part}.weight" for part in "qkv")


def folded(readers: tuple[str, ...] = READERS, smooth: bool = False) -> Any:
    def planted(file: FileContents) -> FileContents:
        norm = file.values(NORM)
        factors = np.random.default_rng(2).uniform(0.3, 3, norm.shape).astype(np.float32) if smooth else norm
        for name in readers:
            file = file.with_values(name, file.values(name) * factors)
        return file.with_values(NORM, norm / factors)

    return planted


@pytest.mark.parametrize("smooth", [False, True], ids=["set to one", "smoothed"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("operand", ["hf:F32", "hf:BF16", "gguf:Q8_0"])
def test_it_is_one_finding_that_says_both_compute_the_same(
    tmp_path: Path, operand: str, side: Any, smooth: bool
) -> None:
    operands = (operand, "gguf:F32") if side == "left" else ("gguf:F32", operand)
    report = compared(tmp_path, SPEC, *operands, folded(smooth=smooth), side, reference=_other(side))
    assert_proven(report, "layers.1.attn_norm", Cause("value.folded", NORM, side))
    assert "both sides compute the same" in report.findings[0].message
    assert next(stage for stage in report.stages if stage.name == "logits").status != "faulty"


def test_a_norm_folded_into_some_of_its_readers_alone_is_no_fold(tmp_path: Path) -> None:
    report = compared(tmp_path, SPEC, "hf:F32", "gguf:F32", folded(READERS[:2]))
    assert "value.folded" not in {finding.kind for finding in report.findings}


def _other(side: str) -> str:
    return {"left": "right", "right": "left"}[side]
