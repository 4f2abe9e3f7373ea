"""One amount added to every value: 1 + w for w first of all; the amount is read off the two copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents
from fixtures.memory import weight_of
from rosetta.diagnose.hypotheses.offset import fitted_offset

KIND = "value.offset"
WIDE = tiny("qwen2", hidden=256, ffn=512, heads=4, head_dim=64, layers=1, tied=False)
CASES = [
    # model, broken operand, the other, tensor, amount, stage
    (tiny("llama"), "gguf:F16", "hf:F16", "blk.1.attn_norm.weight", 1.0, "layers.1.attn_norm"),
    (tiny("mistral"), "hf:BF16", "gguf:F16", "blk.0.ffn_norm.weight", -1.0, "layers.0.ffn_norm"),
    (tiny("llama", ffn=128), "apr:F16", "gguf:Q8_0", "output_norm.weight", 1.0, "final_norm"),
    (tiny("qwen3"), "apr-gguf:F16", "gguf:F16", "blk.0.attn_k_norm.weight", 1.0, "layers.0.k"),
    (tiny("gpt2"), "hf:F16", "apr:F16", "blk.1.ffn_norm.weight", 1.0, "layers.1.ffn_norm"),
    (tiny("qwen2"), "apr:F16", "gguf:F16", "blk.0.attn_k.bias", 0.5, "layers.0.k"),
    (tiny("llama"), "apr:F16", "gguf:F16", "blk.0.attn_v.weight", 0.25, "layers.0.v"),
    (tiny("llama", ffn=128), "gguf:Q8_0", "hf:F16", "blk.1.attn_q.weight", -0.25, "layers.1.q"),
    (WIDE, "gguf:Q4_K", "hf:F16", "blk.0.ffn_up.weight", 0.25, "layers.0.ffn_up"),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: " ".join(map(str, (case[0].architecture, *case[1:5])))
)
def test_amount_is_found_and_proven(tmp_path: Path, case: Any, side: Any) -> None:
    spec, broken, other, tensor, amount, stage = case
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    fault = faults.offset(tensor, amount)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    assert_proven(report, stage, Cause(KIND, tensor, side, actual=amount))
    assert report.findings[0].evidence.from_reference is None


@pytest.mark.parametrize("dtype", ["Q4_0", "Q4_K"])
def test_an_amount_beneath_the_noise_is_one_for_all(tmp_path: Path, dtype: str) -> None:
    """A third of an error's size; it was an amount of each column's own."""
    name = "blk.0.ffn_up.weight"

    def fault(file: FileContents) -> FileContents:
        values = file.values(name)
        return file.with_values(name, (values + 0.03 * values.std()).astype(np.float32))

    report = compared(tmp_path, WIDE, "hf:F16", f"gguf:{dtype}", fault)
    [finding] = report.findings
    assert (finding.kind, finding.tensor, finding.status) == (KIND, name, "confirmed")
    assert "off in every value" in finding.message
    assert finding.evidence is not None
    assert finding.evidence.from_reference is None


def test_one_left_out_of_the_reference_is_one_too_many_of_the_other(tmp_path: Path) -> None:
    """Nothing in either file says who is right: the side that is not believed is accused."""
    fault = faults.offset("blk.0.attn_norm.weight", 1.0)
    report = compared(tmp_path, "llama", "gguf:F16", "apr:F16", fault, "right")
    assert_proven(report, "layers.0.attn_norm", Cause(KIND, "blk.0.attn_norm.weight", "left", actual=-1.0))


def test_values_that_are_off_by_different_amounts_are_no_offset(tmp_path: Path) -> None:
    fault = faults.shuffled("blk.0.ffn_norm.weight", 0, 64, seed=2)
    report = compared(tmp_path, "llama", "gguf:F16", "apr:F16", fault)
    assert KIND not in [found.kind for found in report.findings]


@pytest.mark.parametrize(
    ("left", "right", "amount"), [(0.0, 0.75, None), (0.0, 1.0, -1.0), (0.5, 0.75, -0.25), (0.0, 1.5, None)]
)
def test_what_is_zero_was_lost_but_for_the_one_of_a_norm(
    left: float, right: float, amount: float | None
) -> None:
    """Gemma 4's factor of a layer is one number: all of it is gone, not taken off."""
    ours, theirs = (weight_of(np.full(1, value, np.float32)) for value in (left, right))
    assert fitted_offset(ours, theirs) == amount
