"""The same NaN in both files is a finding: no stage behind it can be compared, and neither side accuses the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents

NAME = "blk.1.ffn_down.weight"


def overflown(file: FileContents) -> FileContents:
    values = file.values(NAME).copy()
    values[3, 5] = np.inf
    return file.with_values(NAME, values)


@pytest.mark.parametrize("right", ["gguf:F32", "gguf:F16"])
def test_a_weight_that_is_finite_in_neither_file_is_named(tmp_path: Path, right: Any) -> None:
    report = compared(tmp_path, tiny("llama"), "hf:F32", right, overflown, side="both")
    (found,) = report.findings
    assert (found.kind, found.tensor, found.status) == ("value.nonfinite", NAME, "suspected")
    assert not found.latent
    assert report.verdict != "match"
    assert "in both files" in found.message
