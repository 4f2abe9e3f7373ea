"""A quantised file of another revision agrees within the noise, and is not passed in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents

SPEC = tiny("llama", hidden=256, head_dim=64, heads=4, ffn=512)


def other_revision(file: FileContents) -> FileContents:
    """Every matrix trained on by a few percent."""
    draw = np.random.default_rng(3)
    for name in [*file.tensors]:
        values = file.values(name)
        if values.ndim == 2:
            more = 0.03 * values.std() * draw.standard_normal(values.shape)
            file = file.with_values(name, (values + more).astype(np.float32))
    return file


def test_other_weights_beneath_the_noise_of_all_matrices_are_said(tmp_path: Path) -> None:
    report = compared(tmp_path, SPEC, "gguf:Q4_K", "hf:BF16", other_revision)
    found = [finding for finding in report.findings if finding.kind == "value.other_weights"]
    assert found
    assert "another revision" in found[0].message


def test_a_clean_pair_has_no_such_finding(tmp_path: Path) -> None:
    assert not compared(tmp_path, SPEC, "gguf:Q4_K", "hf:BF16").findings
