"""Rows and columns of matrices, and the values of their biases, in another order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures import faults
from fixtures.canonical_gguf import tiny_pair
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, compared_files, tiny
from fixtures.planting import planted
from rosetta.diagnose.hypotheses.permuted import matched, matched_numbers, orders

KIND = "layout.permuted"
GPT2 = tiny("gpt2")
CASES = [
    # broken operand, the other, tensor, axis, stage
    ("gguf:F16", "hf:F32", "blk.1.ffn_up.weight", 0, "layers.1.ffn_up"),
    ("gguf:F32", "hf:BF16", "blk.1.ffn_up.bias", 0, "layers.1.ffn_up"),
    ("hf:BF16", "gguf:F16", "blk.0.ffn_up.bias", 0, "layers.0.ffn_up"),
    ("gguf:Q8_0", "hf:F32", "blk.1.ffn_down.weight", 1, "layers.1.ffn_out"),
    ("hf:BF16", "gguf:F16", "blk.0.ffn_up.weight", 0, "layers.0.ffn_up"),  # stored [in, out]
    ("hf:F32", "gguf:F16", "blk.1.ffn_down.weight", 1, "layers.1.ffn_out"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[:3]))
def test_other_order_is_found_and_takes_nothing_from_the_reference(tmp_path: Path, case: Any) -> None:
    broken, other, tensor, axis, stage = case
    report = compared(tmp_path, GPT2, broken, other, faults.features_permuted(tensor, axis, seed=7))
    assert_proven(report, stage, Cause(KIND, tensor, "left"))
    (finding,) = report.findings
    assert finding.evidence.from_reference is None
    assert ("values" if tensor.endswith("bias") else "rows" if axis == 0 else "columns") in finding.message


@pytest.mark.requires_transformers
@pytest.mark.parametrize(("recipe", "layer"), [("refact", 1), ("jamba", 2)])
def test_rows_of_queries_that_nothing_turns_are_rows_in_another_order(
    tmp_path: Path, recipe: str, layer: int
) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    tensor = f"blk.{layer}.attn_q.weight"
    broken = planted(
        file, tmp_path / "broken.gguf", {tensor: lambda v: v[np.random.default_rng(5).permutation(len(v))]}
    )
    report = compared_files(broken, file)
    assert_proven(report, f"layers.{layer}.q", Cause(KIND, tensor, "left"))


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


def noisy(x: torch.Tensor, size: float, seed: int) -> torch.Tensor:
    return x + size * torch.randn(x.shape, generator=torch.manual_seed(seed))


def like_each_other() -> torch.Tensor:
    """Rows that have two thirds in common, as those of trained queries may, and some that are hardly there."""
    rows = torch.randn(64, 128, generator=torch.manual_seed(5))
    rows[:16] = 0.8 * rows[0] + 0.6 * rows[:16]
    rows[20:24] *= 1e-3
    return rows


def test_rows_that_are_like_each_other_are_told_apart() -> None:
    right = like_each_other()
    order = torch.randperm(64, generator=torch.manual_seed(6))
    found = matched(noisy(right[order], 0.1, 1), noisy(right, 0.1, 2))
    assert found is not None
    told = np.array([n not in range(20, 24) for n in range(64)])
    assert (order.numpy()[found] == np.arange(64))[told].all()
    assert len({*found.tolist()}) == 64, "each row is taken once, those too that are noise"


def test_heads_are_told_by_all_of_their_rows() -> None:
    """Four heads of 16, of which each row alone is more noise than itself."""
    right = torch.randn(64, 128, generator=torch.manual_seed(5))
    heads = torch.tensor([2, 0, 3, 1])
    wrong = right.view(4, 16, -1)[heads].reshape(64, -1)
    first = next(orders(noisy(wrong, 1.5, 1), noisy(right, 1.5, 2), 16), None)
    assert first is None, "less than half of a head is its own then"
    first = next(orders(noisy(wrong, 0.9, 1), noisy(right, 0.9, 2), 16))
    assert (heads.numpy()[first[::16] // 16] == np.arange(4)).all()


def test_damaged_rows_and_equal_ones_have_no_order() -> None:
    right = torch.randn(64, 128, generator=torch.manual_seed(5))
    damaged = right.clone()
    damaged[3:9] = torch.randn(6, 128, generator=torch.manual_seed(8))
    assert matched(damaged, right) is None
    assert matched(noisy(right, 0.3, 1), right) is None
    assert matched(torch.ones(64, 128), right) is None
