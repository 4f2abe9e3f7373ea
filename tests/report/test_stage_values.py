"""The tensors of a report's stages, held to each side's own run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import rosetta
from fixtures import build, faults, pair
from fixtures.comparing import tiny
from fixtures.recording import recorded
from rosetta.errors import DamagedFileError, RosettaError, UsageError
from rosetta.report.build import error_report
from rosetta.report.report import Report

IDS = [1, 2, 3]


def broken_pair(folder: Path) -> tuple[Path, Path]:
    return pair(folder, "qwen2", "hf:F32", "gguf:F32", faults.scaled("blk.0.ffn_up.weight", 2.0))


@pytest.mark.parametrize("reference", ["left", "right"])
def test_both_sides_of_a_stage_are_those_of_their_own_runs(tmp_path: Path, reference: str) -> None:
    left, right = broken_pair(tmp_path)
    written = rosetta.compare(left, right, tokens=IDS, reference=reference)  # type: ignore[arg-type]
    report = Report.model_validate_json(written.to_json())  # as who reads a file of it has it
    own = [rosetta.trace(side, tokens=IDS) for side in (left, right)]
    for stage in ("embedding", "layers.0.k_rope", "layers.0.ffn_up", "logits"):
        for value, run in zip(report.tensors(stage), own, strict=True):
            assert value is not None
            assert torch.allclose(value, run[stage], atol=1e-5)
    up = report.tensors("layers.0.ffn_up")
    assert up[0] is not None
    assert up[1] is not None
    assert torch.allclose(up[0], 2 * up[1], atol=1e-5)


def test_scores_that_are_computed_in_parts_come_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = broken_pair(tmp_path)
    report = rosetta.compare(left, right, tokens=IDS)
    monkeypatch.setattr("rosetta.ops.attention.SCORES_AT_ONCE", 1)
    found, _ = report.tensors("layers.0.attn_scores")
    assert found is not None
    assert torch.allclose(found, rosetta.trace(left, tokens=IDS)["layers.0.attn_scores"], atol=1e-5)


def test_a_recorded_side_gives_what_was_recorded(tmp_path: Path) -> None:
    left, right = broken_pair(tmp_path)
    recording = recorded(tmp_path / "run.safetensors", left, tokens=IDS)
    found, own = rosetta.compare(f"trace:{recording}", right, tokens=IDS).tensors("layers.0.ffn_up")
    assert found is not None
    assert own is not None
    assert torch.allclose(found, rosetta.trace(left, tokens=IDS)["layers.0.ffn_up"], atol=1e-5)
    assert torch.allclose(found, 2 * own, atol=1e-5)


@pytest.mark.requires_transformers
@pytest.mark.requires_llamacpp
def test_two_runtimes_give_what_they_computed(tmp_path: Path) -> None:
    folder, file = pair(tmp_path, "qwen2", "hf:F32", "gguf:F32")
    report = rosetta.compare(f"transformers:{folder}", f"llamacpp:{file}", tokens=IDS)
    for stage in ("layers.0.ffn_up", "logits"):
        for value in report.tensors(stage):
            assert value is not None
            assert torch.allclose(value, rosetta.trace(folder, tokens=IDS)[stage], atol=1e-4)


def test_what_cannot_be_given_is_said(tmp_path: Path) -> None:
    left, right = broken_pair(tmp_path)
    report = rosetta.compare(left, right, tokens=IDS)
    for stage in ("tokens", "layers.9.q", "nonsense"):
        with pytest.raises(UsageError, match="has no stage"):
            report.tensors(stage)
    with pytest.raises(UsageError, match="has no stage"):
        error_report({"left": "a", "right": "b"}, "no", None).tensors("logits")
    build(tmp_path / "other", tiny("qwen2", layers=3), "gguf:F32").replace(right)
    with pytest.raises(UsageError, match="no longer the file that the report is of"):
        report.tensors("logits")
    right.write_bytes(right.read_bytes()[:100])
    with pytest.raises(DamagedFileError):
        report.tensors("logits")
    right.unlink()
    with pytest.raises(RosettaError):
        report.tensors("logits")
