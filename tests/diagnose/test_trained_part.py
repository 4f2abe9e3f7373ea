"""A fine-tune with frozen layers is one sentence; what has a cause of its own beside it keeps its finding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import build, faults
from fixtures.comparing import compared, compared_files, tiny
from fixtures.contents import FileContents
from rosetta.diagnose.trained_part import ranges

SPEC = tiny("llama", layers=6)


def trained(*stems: str) -> Callable[[FileContents], FileContents]:
    """All values moved by some hundredths, of the tensors whose names begin or end so."""

    def changed(file: FileContents) -> FileContents:
        rng = np.random.default_rng(11)
        for name in file.tensors:
            if name.startswith(stems) or name.removesuffix(".weight").endswith(stems):
                values = file.values(name)
                step = 0.03 * values.std() * rng.standard_normal(values.shape)
                file = file.with_values(name, (values + step).astype(np.float32))
        return file

    return changed


@pytest.mark.parametrize("dtype", ["gguf:F32", "gguf:BF16", "gguf:Q8_0"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_fine_tune_of_two_layers_is_one_sentence(tmp_path: Path, side: Any, dtype: str) -> None:
    report = compared(tmp_path, SPEC, dtype, "gguf:F32", trained("blk.2.", "blk.3."), side=side)
    [found] = report.findings
    assert (found.kind, found.tensor, found.status, found.latent) == (
        "value.other_weights",
        None,
        "suspected",
        False,
    )
    assert "other weights in layers 2 and 3: 14 of 4" in found.message
    assert report.verdict == "divergent"
    assert found.evidence is not None
    assert report.first_divergence is not None
    assert found.evidence.stage == report.first_divergence.name
    assert report.first_divergence.name.startswith("layers.2.")


def test_a_fine_tune_of_one_projection_says_of_which(tmp_path: Path) -> None:
    report = compared(tmp_path, SPEC, "gguf:BF16", "gguf:F32", trained("attn_q", "attn_v"))
    [found] = report.findings
    assert "other weights in attn_q and attn_v of layers 0 to 5: 12 of 4" in found.message


def test_a_fault_beside_a_fine_tune_is_found_as_what_it_is(tmp_path: Path) -> None:
    scaled = [faults.scaled("blk.0.ffn_up.weight", 1.3), faults.scaled("blk.5.attn_v.weight", 0.8)]
    left = build(tmp_path, SPEC, "gguf:BF16", [trained("blk.2.", "blk.3."), *scaled], stem="left")
    report = compared_files(left, build(tmp_path, SPEC, "gguf:F32", stem="right"))
    found = {(finding.kind, finding.tensor, finding.status) for finding in report.findings}
    assert found == {
        ("value.other_weights", None, "suspected"),
        ("value.scaled", "blk.0.ffn_up.weight", "confirmed"),
        ("value.scaled", "blk.5.attn_v.weight", "confirmed"),
    }


def test_many_weights_that_have_a_cause_are_no_fine_tune(tmp_path: Path) -> None:
    names = [f"blk.{layer}.{stem}.weight" for layer in (1, 4) for stem in ("attn_k", "ffn_gate", "ffn_down")]
    report = compared(tmp_path, SPEC, "gguf:BF16", "gguf:F32", [faults.scaled(name, 1.1) for name in names])
    assert {(finding.kind, finding.tensor) for finding in report.findings} == {
        ("value.scaled", name) for name in names
    }


def test_other_weights_of_a_few_matrices_are_told_one_by_one(tmp_path: Path) -> None:
    names = ("blk.1.attn_q", "blk.4.ffn_up", "blk.5.attn_v")
    report = compared(tmp_path, SPEC, "gguf:BF16", "gguf:F32", trained(*names))
    assert {(finding.kind, finding.tensor) for finding in report.findings} == {
        ("value.other_weights", f"{name}.weight") for name in names
    }


def test_layers_that_follow_each_other_are_said_as_one_range() -> None:
    assert [ranges(numbers) for numbers in ([4], [4, 5], [0, 1, 2], [0, 2, 3, 4, 9])] == [
        "4", "4 and 5", "0 to 2", "0, 2 to 4 and 9",
    ]  # fmt: skip
