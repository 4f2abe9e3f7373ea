"""Bytes that came into a file, or went missing from it, are one fault of all that lies behind them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import faults, pair
from fixtures.causes import Cause, assert_clean, assert_proven
from fixtures.comparing import TOKENS, compared_files, tiny
from fixtures.faults import Fault
from rosetta.compare.options import Options
from rosetta.containers import open_container
from rosetta.repair.repair import repair_operands

KIND = "layout.shifted"
FIRST = {
    "gguf": "blk.1.attn_norm.weight",
    "apr": "model.layers.0.mlp.gate_proj.weight",
    "apr-gguf": "blk.0.attn_q.bias",
}


def start_of(file: Path, name: str) -> int:
    container = open_container(file)
    _, at = container.place(name)
    container.close()
    return at


def two(folder: Path, broken: str, *also: Fault) -> tuple[Path, Path, int]:
    """A pair, and where the tensor lies in the left file before which bytes are to come."""
    left, right = pair(folder, tiny("qwen2"), broken, "hf:F16", list(also))
    return left, right, start_of(left, FIRST[broken.partition(":")[0]])


@pytest.mark.parametrize("broken", ["gguf:F16", "gguf:Q8_0", "apr:F16", "apr-gguf:F16"])
def test_bytes_that_came_in_are_one_fault_from_there_on(tmp_path: Path, broken: str) -> None:
    left, right, at = two(tmp_path, broken)
    stored = left.read_bytes()
    left.write_bytes(stored[:at] + bytes(100) + stored[at:])
    report = compared_files(left, right, reference="right")
    [finding] = report.findings
    assert (finding.kind, finding.side, finding.actual, finding.status) == (KIND, "left", 100, "confirmed")
    assert finding.evidence.from_reference is None, "what a shift cuts off a tensor stands behind it"
    assert f"from {FIRST[broken.partition(':')[0]]} on: 100 bytes came in before it" in finding.message


def test_bytes_that_went_missing_and_came_in_behind_are_one_fault_of_what_lies_between(
    tmp_path: Path,
) -> None:
    left, right, at = two(tmp_path, "gguf:F16")
    end, stored = start_of(left, "output_norm.weight"), left.read_bytes()
    left.write_bytes(stored[: at - 64] + stored[at:end] + bytes(64) + stored[end:])
    report = compared_files(left, right)
    assert [(found.kind, found.actual) for found in report.findings if found.kind == KIND] == [(KIND, -64)]
    assert {found.tensor for found in report.findings if found.kind != KIND} <= {"blk.0.ffn_down.weight"}


def test_one_tensor_beside_its_place_is_a_fault_of_its_own(tmp_path: Path) -> None:
    left, right = pair(
        tmp_path, tiny("qwen2"), "gguf:F16", "hf:F16", faults.shifted("blk.1.attn_k.weight", 2)
    )
    report = compared_files(left, right)
    assert_proven(report, "layers.1.k", Cause(KIND, "blk.1.attn_k.weight", "left", declared=0, actual=2))
    assert "other tensors" not in report.findings[0].message


def test_beside_another_fault_each_is_told_and_what_they_have_in_common(tmp_path: Path) -> None:
    left, right, at = two(tmp_path, "gguf:F16", faults.scaled("blk.1.ffn_up.weight", 2.0))
    stored = left.read_bytes()
    left.write_bytes(stored[:at] + bytes(100) + stored[at:])
    report = compared_files(left, right)
    [said] = [note for note in report.notes if "weights of the left file" in note]
    assert "start some bytes beside their places, most often 100 too far on" in said
    assert {finding.kind for finding in report.findings} > {KIND}


def test_the_repaired_file_holds_what_lay_beside_its_place(tmp_path: Path) -> None:
    left, right, at = two(tmp_path, "gguf:F16")
    stored = left.read_bytes()
    left.write_bytes(stored[:at] + bytes(100) + stored[at:])
    fixed = tmp_path / "fixed.gguf"
    outcome = repair_operands(str(left), str(right), fixed, Options(tokens=TOKENS))
    assert outcome.left_over == []
    assert_clean(compared_files(fixed, right))


@pytest.mark.parametrize("shift", [-32, 64])
@pytest.mark.parametrize("broken", ["gguf:Q8_0", "apr:F16"])
def test_all_data_of_a_file_beside_their_place_are_one_fault(tmp_path: Path, broken: str, shift: int) -> None:
    """The file keeps its length: some bytes of its first tensor, or of its last, are lost."""
    left, right = pair(tmp_path, tiny("qwen2"), broken, "hf:F16")
    container = open_container(left)
    at = min(container.place(name)[1] for name in container.tensors)
    container.close()
    stored = left.read_bytes()
    kept = bytes(shift) + stored[at:-shift] if shift > 0 else stored[at - shift :] + bytes(-shift)
    left.write_bytes(stored[:at] + kept)
    report = compared_files(left, right, reference="right")
    [finding] = report.findings
    assert (finding.kind, finding.side, finding.actual, finding.status) == (KIND, "left", shift, "confirmed")
    assert "other tensors" in finding.message
