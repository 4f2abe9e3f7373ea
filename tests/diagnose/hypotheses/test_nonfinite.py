"""NaN or Inf among the weights accuses its own file, whichever side is believed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_causes, assert_proven
from fixtures.comparing import TOKENS, compared, tiny

KIND, NAN, INF = "value.nonfinite", math.nan, math.inf
LLAMA = tiny("llama", ffn=128, tied=False)
WIDE = tiny("qwen2", hidden=256, ffn=512, heads=4, head_dim=64, layers=1, tied=False)
NORMED = tiny("qwen3", hidden=256, ffn=512, heads=4, head_dim=64, layers=1)
CASES = [
    # model, broken operand, the other, tensor, index, value, stage, weights that are lost
    (LLAMA, "gguf:F16", "hf:F16", "blk.1.ffn_up.weight", 70, NAN, "layers.1.ffn_up", 1),
    (LLAMA, "apr:F16", "gguf:F16", "blk.1.ffn_up.weight", 70, -INF, "layers.1.ffn_up", 1),
    (LLAMA, "hf:BF16", "gguf:F16", "blk.0.attn_q.weight", 5, INF, "layers.0.q", 1),
    (LLAMA, "gguf:Q8_0", "hf:F16", "blk.0.ffn_down.weight", 70, NAN, "layers.0.ffn_out", 32),
    (LLAMA, "apr:APR_Q4", "gguf:F16", "blk.0.attn_v.weight", 0, INF, "layers.0.v", 32),
    (WIDE, "gguf:Q4_K", "hf:F16", "blk.0.attn_output.weight", 300, NAN, "layers.0.attn_out", 256),
    # A row that the repair takes is exact, and still divided by a norm that is not.
    (NORMED, "gguf:Q6_K", "hf:F32", "blk.0.attn_q.weight", 300, NAN, "layers.0.q", 256),
    (LLAMA, "apr-gguf:F16", "hf:F16", "blk.0.attn_norm.weight", 3, NAN, "layers.0.attn_norm", 1),
    (LLAMA, "gguf:F16", "apr:F16", "token_embd.weight", TOKENS[4] * 64 + 9, INF, "embedding", 1),
    (WIDE, "hf:F16", "gguf:F16", "output.weight", 256 * 7, NAN, "logits", 1),
    (WIDE, "apr:F16", "gguf:F16", "blk.0.attn_k.bias", 11, NAN, "layers.0.k", 1),
]


@pytest.mark.sample(2)
@pytest.mark.parametrize(("side", "reference"), [("left", "right"), ("right", "right")])
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case[1:6])))
def test_weight_that_is_no_number_is_found(tmp_path: Path, case: Any, side: Any, reference: Any) -> None:
    spec, broken, other, tensor, index, value, stage, lost = case
    operands = (broken, other) if side == "left" else (other, broken)
    fault = faults.nonfinite(tensor, index, value)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    assert_proven(report, stage, Cause(KIND, tensor, side))
    (found,) = report.findings
    assert found.evidence is not None
    assert str(found.evidence.from_reference).startswith(f"{lost} of ")


def test_row_that_no_token_reads_is_latent(tmp_path: Path) -> None:
    assert 16 not in TOKENS
    fault = faults.nonfinite("token_embd.weight", 16 * 64)
    report = compared(tmp_path, LLAMA, "gguf:F16", "gguf:F16", fault)
    assert report.verdict == "match"
    assert_causes(report, Cause(KIND, "token_embd.weight", latent=True))


def test_same_nan_on_both_sides_is_no_difference_and_is_named(tmp_path: Path) -> None:
    fault = faults.nonfinite("blk.0.ffn_up.weight", 70)
    report = compared(tmp_path, LLAMA, "gguf:F16", "gguf:F16", fault, "both")
    assert report.verdict != "divergent"
    (found,) = report.findings
    assert "in both files" in found.message
    assert found.status == "suspected"
