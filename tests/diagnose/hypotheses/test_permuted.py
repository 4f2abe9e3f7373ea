"""Rows and columns of matrices, and the values of their biases, in another order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny
from rosetta.diagnose.hypotheses.permuted import matched_numbers

KIND = "layout.permuted"
GPT2 = tiny("gpt2")
CASES = [
    # broken operand, the other, tensor, axis, stage
    ("gguf:F16", "hf:F32", "blk.1.ffn_up.weight", 0, "layers.1.ffn_up"),
    ("gguf:F32", "hf:BF16", "blk.1.ffn_up.bias", 0, "layers.1.ffn_up"),
    ("hf:BF16", "gguf:F16", "blk.0.ffn_up.bias", 0, "layers.0.ffn_up"),
    ("gguf:Q8_0", "hf:F32", "blk.1.ffn_down.weight", 1, "layers.1.ffn_out"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[:3]))
def test_other_order_is_found_and_takes_nothing_from_the_reference(tmp_path: Path, case: Any) -> None:
    broken, other, tensor, axis, stage = case
    report = compared(tmp_path, GPT2, broken, other, faults.features_permuted(tensor, axis, seed=7))
    assert_proven(report, stage, Cause(KIND, tensor, "left"))
    (finding,) = report.findings
    assert finding.evidence.from_reference is None
    assert ("values" if tensor.endswith("bias") else "rows" if axis == 0 else "columns") in finding.message


def test_numbers_are_matched_through_their_rounding() -> None:
    right = torch.randn(64, generator=torch.manual_seed(3))
    order = np.random.default_rng(3).permutation(64)
    found = matched_numbers(right[torch.from_numpy(order)].bfloat16().float(), right)
    assert found is not None
    assert (order[found] == np.arange(64)).all()


def test_other_numbers_and_numbers_in_place_have_no_order() -> None:
    right = torch.randn(64, generator=torch.manual_seed(3))
    assert matched_numbers(right.bfloat16().float(), right) is None
    assert matched_numbers(torch.randn(64, generator=torch.manual_seed(4)), right) is None
    assert matched_numbers(torch.where(torch.arange(64) == 5, 9.0, right), right) is None
