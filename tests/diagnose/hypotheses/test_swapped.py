"""Two tensors exchanged: gate and up, one tensor of two layers, tensors of other dims; both are named once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny

KIND = "value.swapped"
LLAMA = tiny("llama", ffn=128, tied=False)
WIDE = tiny("qwen2", hidden=256, ffn=512, heads=4, head_dim=64, layers=2, tied=False)
CASES = [
    # model, broken operand, the other, tensor, partner, stage
    (LLAMA, "gguf:F16", "hf:F16", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "layers.0.ffn_gate"),
    (LLAMA, "apr:F16", "gguf:Q8_0", "blk.1.attn_k.weight", "blk.1.attn_v.weight", "layers.1.k"),
    (LLAMA, "apr-gguf:F16", "gguf:F16", "blk.0.attn_q.weight", "blk.0.attn_output.weight", "layers.0.q"),
    (LLAMA, "hf:BF16", "apr:F16", "blk.0.attn_q.weight", "blk.1.attn_q.weight", "layers.0.q"),
    (LLAMA, "gguf:Q4_0", "hf:F16", "blk.0.ffn_down.weight", "blk.1.ffn_down.weight", "layers.0.ffn_out"),
    (LLAMA, "gguf:F16", "apr:F16", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "layers.0.attn_norm"),
    (LLAMA, "gguf:F16", "apr:F16", "blk.1.ffn_norm.weight", "output_norm.weight", "layers.1.ffn_norm"),
    (LLAMA, "gguf:Q8_0", "hf:F16", "token_embd.weight", "output.weight", "embedding"),
    (WIDE, "gguf:Q4_K", "hf:F16", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "layers.0.ffn_gate"),
    (WIDE, "apr:F16", "gguf:F16", "blk.0.attn_k.bias", "blk.0.attn_v.bias", "layers.0.k"),
]  # fmt: skip


@pytest.mark.sample(9)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join((case[0].architecture, *case[1:5])))
def test_exchanged_tensors_are_one_finding(tmp_path: Path, case: Any, side: Any) -> None:
    spec, broken, other, tensor, partner, stage = case
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    fault = faults.swapped(tensor, partner)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    assert_proven(report, stage, Cause(KIND, tensor, side, partner=partner))
    assert report.findings[0].evidence.from_reference is None


def test_two_layers_exchanged_are_a_finding_for_each_tensor(tmp_path: Path) -> None:
    report = compared(tmp_path, LLAMA, "gguf:F16", "hf:F16", faults.layers_swapped(0, 1))
    stems = (
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_norm",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
    )
    causes = [Cause(KIND, f"blk.0.{s}.weight", partner=f"blk.1.{s}.weight") for s in stems]
    assert_proven(report, "layers.0.attn_norm", *causes)


def test_copy_in_another_place_is_no_exchange(tmp_path: Path) -> None:
    """`up` holds a copy of `gate`, whose own place is right: the values of `up` are in the file nowhere."""
    fault = faults.duplicated("blk.0.ffn_up.weight", "blk.0.ffn_gate.weight")
    report = compared(tmp_path, LLAMA, "gguf:F16", "hf:F16", fault)
    assert [(f.kind, f.tensor, f.status) for f in report.findings] == [
        ("value.other_weights", "blk.0.ffn_up.weight", "confirmed")
    ]
    assert report.verdict == "divergent"
    assert report.first_divergence is not None
    assert report.first_divergence.name == "layers.0.ffn_up"
