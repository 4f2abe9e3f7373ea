"""The command line of `rosetta repair`: options, exit codes, what it prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures import faults, model_spec, pair

Run = Callable[..., Any]
SPEC = model_spec("qwen2")


def test_it_explains_itself(rosetta: Run) -> None:
    result = rosetta("repair", "--help")
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 80
    for option in ("-o", "--prompt", "--prompt-file", "--tokens", "--reference", "--threshold", "-q"):
        assert option in result.out.replace(",", " ").split(), option
    assert "nothing that exists is overwritten" in " ".join(result.out.split())


def test_it_needs_a_place_to_write(rosetta: Run) -> None:
    result = rosetta("repair", "a.apr", "b.gguf")
    assert result.code == 2
    assert "--output" in result.err


def test_stdout_is_no_place(rosetta: Run) -> None:
    result = rosetta("repair", "a.apr", "b.gguf", "-o", "-")
    assert result.code == 2
    assert "cannot go to stdout" in result.err


def test_a_missing_operand_is_said(rosetta: Run, tmp_path: Path) -> None:
    result = rosetta("repair", tmp_path / "a.apr", tmp_path / "b.gguf", "-o", tmp_path / "c")
    assert result.code == 2
    assert "a.apr: no such file" in result.err


def test_what_changed_and_the_second_verdict_are_printed(rosetta: Run, tmp_path: Path) -> None:
    planted = [faults.norm_epsilon(1e-2), faults.zeroed("blk.1.ffn_up.weight", 3, 9)]
    left, right = pair(tmp_path, SPEC, "apr:F16", "gguf:F16", planted)
    result = rosetta("repair", left, right, "-o", tmp_path / "fixed.apr")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == f"[ROSETTA] {left} against {right}: FAILED: config mismatch at Layer 0 attn_norm"
    assert "  rms_norm_eps: 0.01 -> 1e-06" in lines
    name = "model.layers.1.mlp.up_proj.weight"
    said = f"  {name}: F16 [512, 256] -> F16 [512, 256] (value.zeroed: 1536 of 131072 weights from {right})"
    assert said in lines
    assert "  26 tensors copied untouched" in lines
    assert lines[-2] == f"=== {tmp_path / 'fixed.apr'} against {right} ==="
    assert lines[-1].startswith("MATCHED: ")
    assert result.err.count("[APR-LOAD] ") == 1, "what is loaded is logged once"


def test_quiet_prints_the_last_verdict_alone(rosetta: Run, tmp_path: Path) -> None:
    left, right = pair(tmp_path, SPEC, "apr:F16", "gguf:F16", faults.norm_epsilon(1e-2))
    result = rosetta("repair", left, right, "-o", tmp_path / "fixed.apr", "-q")
    assert (result.code, result.err) == (0, "")
    assert len(result.out.splitlines()) == 1
    assert result.out.startswith("MATCHED: ")


def test_an_explicit_threshold_is_a_hard_limit(rosetta: Run, tmp_path: Path) -> None:
    left, right = pair(tmp_path, SPEC, "apr:F16", "gguf:Q8_0", faults.norm_epsilon(1e-2))
    drifted = rosetta("repair", left, right, "-o", tmp_path / "a.apr")
    assert drifted.code == 0
    assert "DRIFT: " in drifted.out
    limited = rosetta("repair", left, right, "-o", tmp_path / "b.apr", "--threshold", "1e-3")
    assert limited.code == 1
    assert (tmp_path / "b.apr").read_bytes() == (tmp_path / "a.apr").read_bytes()


@pytest.mark.sample(2)
@pytest.mark.parametrize("reference", ["left", "right"])
@pytest.mark.parametrize("fault", [faults.norm_epsilon(1e-2), faults.transposed("blk.0.attn_k.weight"), ()])
def test_a_recorded_run_is_what_a_file_is_repaired_by(
    rosetta: Run, tmp_path: Path, fault: Any, reference: str
) -> None:
    wrong, clean = pair(tmp_path, SPEC, "gguf:F16", "gguf:F16", fault)
    trace, tokens = tmp_path / "run.safetensors", ("--tokens", "3,4,5,6")
    assert rosetta("trace", clean, "-o", trace, *tokens).code == 0
    recorded = trace.read_bytes()
    fixed = tmp_path / "fixed.gguf"
    result = rosetta("repair", wrong, f"trace:{trace}", "-o", fixed, "--reference", reference, *tokens)
    assert result.code == 0, result.out + result.err
    assert trace.read_bytes() == recorded, "a record is never what is wrong"
    assert fixed.exists() == bool(fault)
    if fault:
        assert fixed.read_bytes() == clean.read_bytes()
