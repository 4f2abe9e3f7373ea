"""A tensor that one side alone computes with is named where no stage shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import faults, pair
from fixtures.causes import assert_clean
from fixtures.comparing import compared, compared_files, tiny

GPT2 = tiny("gpt2", hidden=256, heads=4, head_dim=64, ffn=512)
BIAS = "blk.0.attn_output.bias"


@pytest.mark.parametrize("reference", ["left", "right"])
def test_lost_bias_beneath_the_noise_is_a_latent_finding_of_the_side_that_lacks_it(
    tmp_path: Path, reference: str
) -> None:
    report = compared(tmp_path, GPT2, "gguf:Q2_K", "hf:BF16", faults.dropped(BIAS), reference=reference)
    assert report.verdict == "drift"
    (finding,) = report.findings
    assert (finding.kind, finding.tensor, finding.side) == ("value.missing", BIAS, "left")
    assert (finding.status, finding.latent) == ("suspected", True)


def test_bias_of_zeros_is_none(tmp_path: Path) -> None:
    zeros = faults.scaled(BIAS, 0.0)
    left, _ = pair(tmp_path / "lost", GPT2, "gguf:F32", "hf:F32", [zeros, faults.dropped(BIAS)])
    _, right = pair(tmp_path / "zeros", GPT2, "gguf:F32", "hf:F32", zeros, "both")
    assert_clean(compared_files(left, right))
