"""Weights that are zero and should not be: all of them, some rows, a bias, a norm, which accuses its own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents

KIND = "value.zeroed"
LLAMA = tiny("llama", ffn=128, tied=False)
WIDE = tiny("qwen2", hidden=256, ffn=512, heads=4, head_dim=64, layers=1, tied=False)
CASES = [
    # model, broken operand, the other, tensor, rows, stage
    (LLAMA, "gguf:F16", "hf:F16", "blk.1.ffn_up.weight", (0, None), "layers.1.ffn_up"),
    (LLAMA, "apr:F16", "gguf:F16", "blk.0.attn_k.weight", (3, 9), "layers.0.k"),
    (LLAMA, "gguf:Q8_0", "hf:F16", "blk.1.ffn_down.weight", (0, None), "layers.1.ffn_out"),
    (LLAMA, "hf:BF16", "gguf:F16", "output.weight", (100, 200), "logits"),
    (LLAMA, "apr-gguf:F16", "hf:F16", "blk.1.attn_norm.weight", (0, None), "layers.1.attn_norm"),
    (LLAMA, "apr:F16", "gguf:F16", "token_embd.weight", (0, 18), "embedding"),
    (WIDE, "gguf:Q4_K", "hf:F16", "blk.0.attn_output.weight", (0, None), "layers.0.attn_out"),
    (WIDE, "apr:F16", "gguf:F16", "blk.0.attn_v.bias", (0, None), "layers.0.v"),
    (tiny("qwen3"), "apr:F16", "gguf:F16", "blk.0.attn_q_norm.weight", (0, None), "layers.0.q"),
    (tiny("gpt2"), "hf:F16", "apr:F16", "position_embd.weight", (0, None), "embedding"),
]


@pytest.mark.sample(11)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: " ".join(map(str, (case[0].architecture, *case[1:5])))
)
def test_zeros_are_found_and_replaced(tmp_path: Path, case: Any, side: Any) -> None:
    spec, broken, other, tensor, rows, stage = case
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    fault = faults.zeroed(tensor, *rows)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    assert_proven(report, stage, Cause(KIND, tensor, side))
    taken, _, count = str(report.findings[0].evidence.from_reference).partition(" of ")
    share = 1 if rows[1] is None else (rows[1] - rows[0]) / report.weights.differing_tensors[0].left_dims[0]
    # Values that another dtype rounds to zero as well need not be taken.
    assert 0.9 * share <= int(taken) / int(count.split()[0]) <= share


@pytest.mark.parametrize("tensor", ["blk.1.attn_norm.weight", "output_norm.weight", "blk.0.attn_v.weight"])
def test_weight_of_zeros_accuses_its_own_file_though_it_is_believed(tmp_path: Path, tensor: str) -> None:
    report = compared(tmp_path, LLAMA, "apr:F16", "gguf:F16", faults.zeroed(tensor), "right")
    assert [(f.kind, f.tensor, f.side, f.status) for f in report.findings] == [
        (KIND, tensor, "right", "confirmed")
    ]


def test_bias_of_zeros_is_believed_of_the_reference(tmp_path: Path) -> None:
    """A bias may be zero: the other side's is then one that the reference does not have."""
    report = compared(tmp_path, "qwen2", "apr:F16", "gguf:F16", faults.zeroed("blk.0.attn_q.bias"), "right")
    assert [(f.tensor, f.side, f.status) for f in report.findings] == [
        ("blk.0.attn_q.bias", "left", "suspected")
    ]


def test_what_was_pruned_is_not_said_to_be_unwritten(tmp_path: Path) -> None:
    name = "blk.1.ffn_up.weight"

    def pruned(file: FileContents) -> FileContents:
        values = file.values(name)
        return file.with_values(name, np.where(abs(values) < np.median(abs(values)), np.float32(0), values))

    report = compared(tmp_path, "llama", "hf:F16", "gguf:F16", pruned)
    assert_proven(report, "layers.1.ffn_up", Cause("value.zeroed", name))
    (found,) = report.findings
    assert "it was pruned" in found.message
    assert "never written" not in found.recommendation
