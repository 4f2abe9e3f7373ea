"""A fault of which no cause is proven is still located, said to be unexplained, and fails."""

from __future__ import annotations

from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.comparing import compared, faulty, tiny
from rosetta.diagnose import search
from rosetta.diagnose.hypotheses import Hypothesis, all_hypotheses
from rosetta.diagnose.hypothesis import Fault, Proposal
from rosetta.diagnose.kinds import all_kinds

LLAMA = tiny("llama", ffn=128, tied=False)


def without(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    """Leave kinds of finding out, as if nobody had thought of them."""
    assert set(kinds) <= set(all_kinds())

    def ignorant(propose: Hypothesis) -> Hypothesis:
        @wraps(propose)
        def some(fault: Fault) -> Iterator[Proposal]:
            return (proposal for proposal in propose(fault) if proposal.kind not in kinds)

        return some

    hypotheses = [ignorant(propose) for propose in all_hypotheses()]
    monkeypatch.setattr(search, "all_hypotheses", lambda: hypotheses)


DAMAGE = ("value.corrupted", "value.other_weights")
CASES = [
    # kinds left out, fault, stage, (tensor, key)
    (("config.rope_theta",), faults.rope_theta(5e5), "q_rope", (None, "rope.freq_base")),
    (("config.attention_scale",), faults.attention_scale(0.2), "attn_scores", (None, "attention.scale")),
    (("config.activation",), faults.activation("gelu"), "ffn_act", (None, "activation")),
    (DAMAGE, faults.shuffled("blk.0.ffn_up.weight", 3, 60, 1), "ffn_up", ("blk.0.ffn_up.weight", None)),
    (("value.swapped", *DAMAGE), faults.swapped("blk.0.attn_k.weight", "blk.0.attn_v.weight"), "k",
     ("blk.0.attn_k.weight", None)),
    (("value.missing", "config.head_dim"), faults.dropped("blk.0.attn_output.weight"), "attn_out",
     ("blk.0.attn_output.weight", None)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0][0])
def test_fault_that_no_hypothesis_knows_is_located_and_unexplained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Any
) -> None:
    kinds, fault, op, accused = case
    without(monkeypatch, *kinds)
    report = compared(tmp_path, LLAMA, "apr:F16", "gguf:F16", fault)
    assert report.verdict == "divergent"
    assert report.first_divergence is not None
    assert report.first_divergence.name == f"layers.0.{op}"
    first = report.findings[0]
    assert (first.kind, first.status, first.side, first.latent) == ("unexplained", "suspected", "left", False)
    assert (first.tensor, first.key) == accused
    assert first.evidence is not None
    assert (first.evidence.stage, first.evidence.after) == (f"layers.0.{op}", None)


def test_setting_of_all_layers_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "config.norm_epsilon")
    report = compared(tmp_path, LLAMA, "hf:F16", "gguf:F16", faults.norm_epsilon(1e-3))
    assert len(faulty(report)) == 5
    assert [(found.kind, found.key) for found in report.findings] == [
        ("unexplained", "attention.layer_norm_rms_epsilon")
    ]


def test_later_faults_are_found_behind_an_unexplained_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "value.corrupted", "value.other_weights", "layout.reordered")
    fault = [faults.shuffled("blk.0.attn_v.weight", 0, 32, 1), faults.scaled("blk.1.ffn_down.weight", 2.0)]
    report = compared(tmp_path, LLAMA, "gguf:F16", "apr:F16", fault)
    assert [(f.kind, f.tensor, f.status) for f in report.findings] == [
        ("unexplained", "blk.0.attn_v.weight", "suspected"),
        ("value.scaled", "blk.1.ffn_down.weight", "confirmed"),
    ]
