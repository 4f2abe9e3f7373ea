"""A GGUF file that lost the alignment that it was written with is one fault, at the first tensor and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import build, faults
from fixtures.comparing import compared_files, tiny
from rosetta.compare.options import Options
from rosetta.containers import open_container
from rosetta.containers.gguf.reader import GgufContainer
from rosetta.repair.repair import repair_operands

SPEC = tiny("llama", layers=2, hidden=64, ffn=128, tied=False)  # every tensor takes a multiple of 256 bytes


def padded_to_more(path: Path) -> int:
    """Move the data of a GGUF file to where a larger alignment puts them, which it does not state.

    Returns:
        That alignment: the smallest that gives another place.
    """
    with_key = open_container(path)
    assert isinstance(with_key, GgufContainer)
    start = with_key.data_starts[path]
    with_key.close()
    data = path.read_bytes()
    alignment = next(size for size in (64, 128, 256) if start % size)
    path.write_bytes(data[:start] + bytes(-start % alignment) + data[start:])
    return alignment


def two(tmp_path: Path, side: str) -> tuple[Path, Path, int]:
    """A pair of which one file has lost its alignment, and what that was."""
    left, right = (build(tmp_path, SPEC, "gguf:F32", stem=stem) for stem in ("left", "right"))
    return left, right, padded_to_more(left if side == "left" else right)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_lost_alignment_is_one_finding_whichever_side_is_believed(tmp_path: Path, side: Any) -> None:
    left, right, alignment = two(tmp_path, side)
    report = compared_files(left, right, reference="right")
    [found] = report.findings
    assert (found.kind, found.side, found.key, found.tensor) == (
        "layout.shifted", side, "general.alignment", "token_embd.weight",
    )  # fmt: skip
    assert (found.declared, found.actual, found.status, found.latent) == (None, alignment, "confirmed", False)
    assert found.evidence is not None
    assert (found.evidence.stage, found.evidence.after, found.evidence.from_reference) == (
        "embedding",
        0,
        None,
    )


def test_its_repair_is_the_sound_file_again(tmp_path: Path) -> None:
    left, right, _ = two(tmp_path, "left")
    outcome = repair_operands(str(left), str(right), tmp_path / "repaired.gguf", Options(tokens=(5, 6)))
    assert outcome.after is not None
    assert (outcome.after.verdict, outcome.after.findings) == ("match", [])


def test_one_shifted_tensor_is_no_lost_alignment(tmp_path: Path) -> None:
    left = build(tmp_path, SPEC, "gguf:F32", faults.shifted("token_embd.weight", 64), stem="left")
    right = build(tmp_path, SPEC, "gguf:F32", stem="right")
    report = compared_files(left, right)
    assert [(found.kind, found.tensor) for found in report.findings] == [
        ("layout.shifted", "token_embd.weight")
    ]
