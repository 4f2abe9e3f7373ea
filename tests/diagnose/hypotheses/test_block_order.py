"""Nibbles of a quantised group in pairs instead of halves, or the reverse, are put in order and proven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny

KIND = "dtype.block_order"
PAIRED, HALVED = "pairs 2k, 2k+1", "halves k, k+n/2"
SMALL = tiny("llama", ffn=128, tied=False)
WIDE = tiny("qwen2", hidden=256, ffn=512, heads=4, head_dim=64, layers=2, tied=False)
CASES = [
    # model, broken operand, the other, tensor, stage
    (SMALL, "gguf:Q4_0", "hf:F16", "blk.0.attn_q.weight", "layers.0.q"),
    (SMALL, "apr-gguf:Q4_0", "gguf:F16", "blk.1.attn_k.weight", "layers.1.k"),
    (SMALL, "apr:APR_Q4", "gguf:F16", "blk.1.ffn_gate.weight", "layers.1.ffn_gate"),
    (SMALL, "gguf:Q4_1", "hf:F32", "blk.0.ffn_up.weight", "layers.0.ffn_up"),
    (SMALL, "gguf:Q5_0", "apr:F16", "blk.1.ffn_down.weight", "layers.1.ffn_out"),
    (SMALL, "gguf:Q4_0", "gguf:Q8_0", "blk.0.attn_output.weight", "layers.0.attn_out"),
    (SMALL, "gguf:Q4_0", "hf:F16", "output.weight", "logits"),
    (SMALL, "gguf:MXFP4", "hf:F16", "blk.1.ffn_up.weight", "layers.1.ffn_up"),
    (WIDE, "gguf:Q4_K", "hf:F16", "blk.0.attn_v.weight", "layers.0.v"),
    (WIDE, "apr:Q4_K", "gguf:Q4_K", "blk.1.ffn_down.weight", "layers.1.ffn_out"),
    (WIDE, "gguf:Q4_K", "gguf:Q4_K", "token_embd.weight", "embedding"),
]


@pytest.mark.sample(6)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join((case[0].architecture, *case[1:4])))
def test_nibbles_in_the_other_order_are_found_and_proven(tmp_path: Path, case: Any, side: Any) -> None:
    spec, broken, other, tensor, stage = case
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    fault = faults.nibbles_reordered(tensor)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    dtype = broken.partition(":")[2]
    # An `.apr`'s own 4-bit type keeps pairs; there the fault is the reverse.
    found = HALVED if dtype == "APR_Q4" else PAIRED
    assert_proven(report, stage, Cause(KIND, tensor, side, declared=dtype, actual=found))


@pytest.mark.parametrize("operand", ["gguf:Q4_0", "apr:APR_Q4"])
def test_wrong_values_are_not_called_a_wrong_order(tmp_path: Path, operand: str) -> None:
    fault = faults.shuffled("blk.0.ffn_up.weight", 3, 40, seed=4)
    report = compared(tmp_path, SMALL, operand, "hf:F16", fault)
    assert [found.kind for found in report.findings] == ["value.corrupted"]


def test_nothing_of_the_reference_is_taken(tmp_path: Path) -> None:
    fault = faults.nibbles_reordered("blk.0.ffn_up.weight")
    (found,) = compared(tmp_path, SMALL, "gguf:Q4_0", "hf:F16", fault).findings
    assert found.evidence is not None
    assert found.evidence.from_reference is None
