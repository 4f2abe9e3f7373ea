"""A tensor that a side lacks is named at the stage that needs it, and taken from the other side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import build, faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, compared_files, tiny

KIND = "value.missing"
CASES = [
    # architecture, broken operand, the other, tensor, stage, whether it can be computed without
    ("qwen2", "apr:F16", "gguf:F16", "blk.0.attn_q.bias", "layers.0.q", True),
    ("qwen2", "hf:BF16", "gguf:Q8_0", "blk.1.attn_v.bias", "layers.1.v", True),
    ("qwen3", "gguf:F16", "hf:F16", "blk.1.attn_k_norm.weight", "layers.1.k", True),
    ("qwen3", "apr:F16", "gguf:F16", "blk.0.attn_q_norm.weight", "layers.0.q", True),
    ("gpt2", "gguf:F16", "hf:F16", "position_embd.weight", "embedding", True),
    ("gpt2", "apr:F16", "hf:F16", "output_norm.bias", "final_norm", True),
    ("gpt2", "hf:F16", "gguf:F16", "blk.0.ffn_down.bias", "layers.0.ffn_out", True),
    ("llama", "gguf:Q8_0", "hf:F16", "blk.1.attn_output.weight", "layers.1.attn_out", False),
    ("llama", "apr-gguf:F16", "gguf:F16", "blk.0.ffn_norm.weight", "layers.0.ffn_norm", False),
    ("mistral", "hf:F16", "gguf:F16", "output_norm.weight", "final_norm", False),
    ("llama", "gguf:F16", "hf:F16", "token_embd.weight", "embedding", False),
    ("llama", "hf:F16", "apr:F16", "output.weight", "logits", False),  # config.json says it has a head
]


@pytest.mark.sample(5)
@pytest.mark.parametrize(("side", "reference"), [("left", "right"), ("right", "right")])
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[:4]))
def test_absent_tensor_is_found_whichever_side_is_believed(
    tmp_path: Path, case: Any, side: Any, reference: Any
) -> None:
    name, broken, other, tensor, stage, computable = case
    operands = (broken, other) if side == "left" else (other, broken)
    spec, fault = tiny(name, ffn=128, tied=False), faults.dropped(tensor)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    assert_proven(report, stage, Cause(KIND, tensor, side))
    (found,) = report.findings
    names = (found.left_name, found.right_name)
    assert names[side == "right"] is None, "the file has no such tensor"
    assert names[side == "left"] is not None
    assert found.evidence is not None
    assert (found.evidence.before is not None) == computable
    assert str(found.evidence.from_reference).startswith("all ")


def test_missing_parts_of_a_fused_tensor_are_each_named(tmp_path: Path) -> None:
    report = compared(tmp_path, "gpt2", "gguf:F16", "apr:F16", faults.dropped("blk.0.attn_qkv.bias"))
    assert_proven(report, "layers.0.q", *(Cause(KIND, f"blk.0.attn_{part}.bias") for part in "qkv"))


def test_absent_bias_of_zeros_is_latent(tmp_path: Path) -> None:
    """Without it the same is computed: a difference between the files that no prompt shows."""
    zero, drop = faults.zeroed("blk.0.attn_k.bias"), faults.dropped("blk.0.attn_k.bias")
    left = build(tmp_path, tiny("qwen2"), "apr:F16", drop, stem="left")
    right = build(tmp_path, tiny("qwen2"), "gguf:F16", zero, stem="right")
    report = compared_files(left, right)
    assert report.verdict == "match"
    assert report.weights.missing_left == ["blk.0.attn_k.bias"]
    assert [found for found in report.findings if not found.latent] == []
