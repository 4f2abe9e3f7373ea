"""Every value times one factor: found by least squares, negative ones and those of quantised copies too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import build, faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, compared_files, tiny
from fixtures.memory import weight_of
from rosetta.diagnose.hypotheses.scaled import fitted_factor

KIND = "value.scaled"
LLAMA = tiny("llama", ffn=128, tied=False)
WIDE = tiny("qwen2", hidden=256, ffn=512, heads=4, head_dim=64, layers=1, tied=False)
CASES = [
    # model, broken operand, the other, tensor, factor, stage
    (LLAMA, "gguf:F32", "hf:F32", "blk.0.attn_q.weight", 1.01, "layers.0.q"),
    (LLAMA, "gguf:F16", "gguf:F16", "blk.1.ffn_down.weight", 2.0, "layers.1.ffn_out"),
    (LLAMA, "apr:F16", "gguf:Q8_0", "blk.0.attn_output.weight", -1.0, "layers.0.attn_out"),
    (LLAMA, "hf:BF16", "apr:F16", "blk.1.ffn_gate.weight", 0.125, "layers.1.ffn_gate"),
    (LLAMA, "gguf:Q8_0", "hf:F16", "blk.0.attn_k.weight", 1.25, "layers.0.k"),
    (LLAMA, "apr-gguf:F16", "hf:F16", "output.weight", 0.5, "logits"),
    (LLAMA, "gguf:F16", "hf:F16", "blk.1.ffn_norm.weight", 3.0, "layers.1.ffn_norm"),
    (tiny("qwen3"), "apr:F16", "hf:F16", "token_embd.weight", 8.0, "embedding"),
    (WIDE, "apr:F16", "gguf:F16", "blk.0.attn_q.bias", -1.0, "layers.0.q"),
    (tiny("gpt2"), "hf:F16", "gguf:F16", "blk.0.ffn_up.weight", 2.0, "layers.0.ffn_up"),
    (tiny("gpt2"), "apr:F16", "gguf:F16", "position_embd.weight", 2.0, "embedding"),
]


@pytest.mark.sample(2)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: " ".join(map(str, (case[0].architecture, *case[1:5])))
)
def test_factor_is_found_and_proven(tmp_path: Path, case: Any, side: Any) -> None:
    spec, broken, other, tensor, factor, stage = case
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    fault = faults.scaled(tensor, factor)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    assert_proven(report, stage, Cause(KIND, tensor, side, actual=factor))
    assert report.findings[0].evidence.from_reference is None


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.scaled("blk.0.attn_norm.weight", 1.02), KIND),
        (faults.scaled("output_norm.weight", 0.98), KIND),
        (faults.offset("blk.0.attn_norm.weight", 0.02), "value.offset"),
        (faults.offset("output_norm.weight", -0.01), "value.offset"),
    ],
)
def test_a_factor_of_a_norm_and_an_amount_are_told_apart(
    tmp_path: Path, fault: faults.Fault, kind: str
) -> None:
    """All its weights are about 1, so that one comes near what the other does, beneath BF16 too."""
    left, right = build(tmp_path, "llama", "apr:F32", fault), build(tmp_path, "llama", "hf:BF16")
    (found,) = compared_files(left, right, tokens=(3, 4, 5, 6, 7, 8)).findings
    assert (found.kind, found.status) == (kind, "confirmed")


@pytest.mark.sample(2)
@pytest.mark.parametrize("factor", [-1.0, 2.0])
@pytest.mark.parametrize(("spec", "dtype"), [(LLAMA, "Q4_0"), (LLAMA, "APR_Q4"), (WIDE, "Q4_K")])
def test_factor_of_a_four_bit_copy_is_found_about(
    tmp_path: Path, spec: Any, dtype: str, factor: float
) -> None:
    """Rounding to four bits takes some off all values: the factor says by how much the copy differs."""
    operand, tensor = f"{'apr' if dtype.startswith('APR') else 'gguf'}:{dtype}", "blk.0.ffn_up.weight"
    report = compared(tmp_path, spec, operand, "hf:F16", faults.scaled(tensor, factor))
    assert_proven(report, "layers.0.ffn_up", Cause(KIND, tensor))
    assert np.isclose(report.findings[0].actual, factor, rtol=0.02)


def test_tied_head_is_scaled_with_its_embedding(tmp_path: Path) -> None:
    fault = faults.scaled("token_embd.weight", 8.0)
    report = compared(tmp_path, tiny("qwen2", tied=True), "gguf:F16", "hf:F16", fault)
    assert_proven(report, "embedding", Cause(KIND, "token_embd.weight", actual=8.0))


def test_one_scaled_block_is_no_scaled_tensor(tmp_path: Path) -> None:
    fault = faults.block_scaled("blk.0.ffn_up.weight", 2.0, block=3)
    report = compared(tmp_path, LLAMA, "gguf:F16", "hf:F16", fault)
    assert [found.kind for found in report.findings] == ["value.corrupted"]


def test_a_factor_that_chance_gives_is_none() -> None:
    """Two copies in BF16 of weights that differ by less than its steps: 0.999996 was called a factor, and proven."""
    values = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    moved = values * (1 + 0.001 * np.random.default_rng(1).standard_normal(values.shape).astype(np.float32))
    assert fitted_factor(weight_of(moved, "BF16"), weight_of(values, "BF16")) is None
    factor = fitted_factor(weight_of(moved * np.float32(1.0001), "BF16"), weight_of(values, "BF16"))
    assert factor == pytest.approx(1.0001, abs=3e-5), "six standard deviations of so many errors"
