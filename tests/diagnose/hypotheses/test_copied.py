"""A tensor that stands in another one's place too is named with the one that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults, pair
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, compared_files, tiny

KIND = "value.other_weights"
LLAMA = tiny("llama", ffn=128, tied=False)
CASES = [
    # broken operand, the other, tensor, the one it is a copy of, stage
    ("gguf:F16", "hf:F16", "blk.0.ffn_up.weight", "blk.0.ffn_gate.weight", "layers.0.ffn_up"),
    ("apr:F16", "gguf:Q8_0", "blk.1.ffn_down.weight", "blk.0.ffn_down.weight", "layers.1.ffn_out"),
    ("gguf:Q4_0", "hf:BF16", "blk.1.attn_k.weight", "blk.1.attn_v.weight", "layers.1.k"),
    ("hf:F32", "gguf:F32", "blk.1.ffn_norm.weight", "blk.0.ffn_norm.weight", "layers.1.ffn_norm"),
    ("hf:BF16", "hf-sharded:BF16", "blk.1.attn_q.weight", "blk.1.attn_output.weight", "layers.1.q"),
]


@pytest.mark.sample(5)
@pytest.mark.parametrize("believed", ["broken", "right"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[:4]))
def test_copy_is_named_with_what_it_is_a_copy_of(tmp_path: Path, case: Any, believed: str) -> None:
    """Whichever side is believed: two equal matrices contradict each other."""
    broken, other, tensor, partner, stage = case
    fault = faults.duplicated(tensor, partner)
    report = compared(
        tmp_path, LLAMA, broken, other, fault, reference="left" if believed == "broken" else "right"
    )
    assert_proven(report, stage, Cause(KIND, tensor, "left", partner=partner))
    (finding,) = report.findings
    assert f"holds the values of {partner}" in finding.message
    assert finding.evidence.from_reference is not None


def test_what_is_equal_on_both_sides_is_no_copy(tmp_path: Path) -> None:
    """A model whose layers share a matrix, with another fault in one of them."""
    shared, more = (
        faults.duplicated("blk.1.ffn_up.weight", "blk.0.ffn_up.weight"),
        faults.scaled("blk.1.ffn_up.weight", 2.0),
    )
    broken, _ = pair(tmp_path / "broken", LLAMA, "gguf:F16", "gguf:F16", [shared, more], "both")
    _, clean = pair(tmp_path / "clean", LLAMA, "gguf:F16", "gguf:F16", shared, "both")
    report = compared_files(broken, clean)
    assert_proven(report, "layers.1.ffn_up", Cause("value.scaled", "blk.1.ffn_up.weight"))
