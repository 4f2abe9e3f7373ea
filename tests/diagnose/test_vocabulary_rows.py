"""Rows of embedding and head that one side lacks, where the run or the config asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import build, faults
from fixtures.comparing import compared_files, tiny
from fixtures.contents import FileContents
from fixtures.faults.fault import Fault

ADDED = 3
TABLES = ("token_embd.weight", "output.weight")


def resized(file: FileContents) -> FileContents:
    """Rows for three more tokens behind the vocabulary, and a config that counts them."""
    for name in TABLES:
        if name in file.tensors:
            file = file.with_values(name, np.pad(file.values(name), ((0, ADDED), (0, 0)), mode="edge"))
    return counted(file)


def counted(file: FileContents) -> FileContents:
    """A config that counts three more tokens than there are rows."""
    return faults.config_set("vocab_size", file.spec.vocab + ADDED)(file)


def against_resized(
    tmp_path: Path, fault: tuple[Fault, ...], tokens: tuple[int, ...], tied: bool, **options: Any
) -> Any:
    """A file with the old tables, on the left, against one with the resized ones."""
    spec = tiny("llama", layers=1, tied=tied)
    left = build(tmp_path, spec, "hf:F32", fault, stem="left")
    right = build(tmp_path, spec, "gguf:F32", resized, stem="right")
    return compared_files(left, right, tokens=tokens, **options)


@pytest.mark.parametrize("reference", ["left", "right"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_side_without_a_row_that_is_run_lacks_it_whichever_is_believed(
    tmp_path: Path, reference: Any, tied: bool
) -> None:
    beyond = tiny("llama").vocab + 1
    report = against_resized(tmp_path, (), (5, beyond, 6), tied, reference=reference)
    named = {(found.kind, found.side, found.tensor) for found in report.findings}
    assert named == {("value.missing", "left", name) for name in TABLES[: 1 if tied else 2]}
    assert report.first_divergence.name == "embedding"
    assert "no rows 384 to 386" in report.findings[0].message
    assert {stage.status for stage in report.stages if stage.layer == 0} <= {"ok", "drift", "carried"}


def test_rows_that_the_own_config_counts_are_missing(tmp_path: Path) -> None:
    report = against_resized(tmp_path, (counted,), (5, 6), tied=False)
    assert [(found.kind, found.side, found.tensor, found.latent) for found in report.findings] == [
        ("value.missing", "left", name, False) for name in TABLES
    ]


def test_stages_that_nothing_can_be_computed_from_are_accused_of_nothing(tmp_path: Path) -> None:
    """The embedding is lost on both sides, so that no stage has inputs: one fault, at the embedding."""
    lost, spec = faults.dropped("token_embd.weight"), tiny("llama", layers=2, tied=False)
    left, right = (
        build(tmp_path, spec, operand, lost, stem=stem)
        for operand, stem in (("apr-gguf:F16", "left"), ("gguf:F16", "right"))
    )
    report = compared_files(left, right)
    stages = {stage.name: stage for stage in report.stages}
    assert stages["embedding"].status == "faulty"
    assert {stages[name].status for name in stages if name not in ("tokens", "embedding")} == {"carried"}
    assert [found.evidence.stage for found in report.findings if found.evidence] == ["embedding"]
    assert report.verdict == "divergent"
