"""Data that starts some bytes too late or too early: the shift is found, what it cut off is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny

KIND = "layout.shifted"
LLAMA = tiny("llama", ffn=128, tied=False)
GPT2 = tiny("gpt2")
WIDE = tiny("qwen2", hidden=256, ffn=512, heads=4, head_dim=64, layers=1, tied=False)
CASES = [
    # model, broken operand, the other, tensor, shift in bytes (of a quantised type, one block too), stage
    (LLAMA, "gguf:F16", "hf:F16", "blk.0.ffn_up.weight", 2, "layers.0.ffn_up"),
    (LLAMA, "gguf:F16", "apr:F16", "blk.1.attn_q.weight", -4, "layers.1.q"),  # of reordered rows
    (LLAMA, "apr:F32", "gguf:F16", "blk.0.attn_v.weight", 4, "layers.0.v"),
    (WIDE, "apr:F32", "gguf:F16", "blk.0.ffn_norm.weight", -4, "layers.0.ffn_norm"),
    (LLAMA, "hf:BF16", "gguf:F16", "blk.1.ffn_down.weight", 64, "layers.1.ffn_out"),
    (LLAMA, "gguf:Q8_0", "hf:F16", "blk.0.ffn_gate.weight", 2, "layers.0.ffn_gate"),
    (LLAMA, "gguf:Q8_0", "hf:F16", "blk.0.ffn_gate.weight", -34, "layers.0.ffn_gate"),
    (LLAMA, "apr-gguf:Q4_0", "gguf:F16", "blk.1.attn_k.weight", 4, "layers.1.k"),
    (LLAMA, "gguf:Q4_0", "gguf:Q4_0", "blk.1.attn_output.weight", 18, "layers.1.attn_out"),
    (WIDE, "gguf:Q4_K", "hf:F16", "blk.0.ffn_down.weight", -4, "layers.0.ffn_out"),
    (WIDE, "gguf:Q4_K", "hf:F16", "blk.0.attn_v.weight", 144, "layers.0.v"),
    (WIDE, "apr:F16", "gguf:F16", "output.weight", -2, "logits"),
    (LLAMA, "gguf:F16", "hf:F32", "blk.0.ffn_up.weight", 11 * 128, "layers.0.ffn_up"),  # rows
    (LLAMA, "hf:BF16", "gguf:Q8_0", "token_embd.weight", -128, "embedding"),
    (WIDE, "gguf:Q8_0", "hf:F16", "blk.0.ffn_gate.weight", 4096, "layers.0.ffn_gate"),  # a page cuts blocks
    (WIDE, "gguf:Q4_K", "hf:BF16", "blk.0.ffn_down.weight", -4096, "layers.0.ffn_out"),
    (WIDE, "gguf:Q6_K", "apr:F16", "blk.0.ffn_up.weight", 1024, "layers.0.ffn_up"),
    (GPT2, "hf:F16", "gguf:F16", "blk.0.attn_output.weight", 2, "layers.0.attn_out"),  # stored [in, out]
]


@pytest.mark.sample(8)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: " ".join(map(str, (case[0].architecture, *case[1:5])))
)
def test_shift_is_found_and_undone(tmp_path: Path, case: Any, side: Any) -> None:
    spec, broken, other, tensor, nbytes, stage = case
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    fault = faults.shifted(tensor, nbytes)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    assert_proven(report, stage, Cause(KIND, tensor, side, declared=0, actual=nbytes))
    taken = report.findings[0].evidence.from_reference
    if taken is not None:  # what was cut off may have been rounded to zero
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType[broken.split(":")[1]]]
        lost = (-(-abs(nbytes) // size) + 1) * max(block, 32)
        assert int(taken.split()[0]) <= lost, "only the end that was cut off is lost"
    assert f"{abs(nbytes)} bytes too {'late' if nbytes > 0 else 'early'}" in report.findings[0].message


def test_fused_tensor_is_shifted_as_a_whole(tmp_path: Path) -> None:
    report = compared(tmp_path, "gpt2", "gguf:F16", "apr:F16", faults.shifted("blk.0.attn_qkv.weight", 2))
    assert {found.kind for found in report.findings} == {KIND}
    assert {found.actual for found in report.findings} == {2}
    assert all(found.status == "confirmed" for found in report.findings)


@pytest.mark.parametrize("nbytes", [4, 64, -2, -4, -70])
def test_one_scale_for_all_is_found_where_it_lies(tmp_path: Path, nbytes: int) -> None:
    """APR_Q8 is one block: what is read as its scale are codes or padding, often zeros, and the tensor looks zeroed."""
    tensor = "blk.0.ffn_up.weight"
    report = compared(tmp_path, LLAMA, "apr:APR_Q8", "hf:BF16", faults.shifted(tensor, nbytes))
    assert_proven(report, "layers.0.ffn_up", Cause(KIND, tensor, "left", declared=0, actual=nbytes))
    taken = report.findings[0].evidence.from_reference
    assert taken is None or int(taken.split()[0]) <= abs(nbytes) + 32
