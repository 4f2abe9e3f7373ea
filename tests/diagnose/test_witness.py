"""A witness accuses nobody: at each stage at fault it says with which side it agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import build, faults
from fixtures.comparing import TOKENS, compared_files, tiny
from fixtures.recording import recorded
from rosetta.errors import RosettaError
from rosetta.report import html
from rosetta.report.text import render
from tests.conftest import Compare

SPEC = tiny("qwen2")
FAULT = faults.scaled("blk.1.ffn_up.weight", 2.0)
STAGE = "layers.1.ffn_up"


def made(folder: Path, container: str, fault: Any = (), stem: str = "model") -> str:
    return str(build(folder, SPEC, container, fault, stem=stem))


def operand(folder: Path, kind: str, fault: Any = ()) -> str:
    """One operand of a kind: a file, a recorded run, or a runtime that runs now."""
    if kind == "trace":
        model = build(folder, SPEC, "gguf:F32", fault, stem="recorded")
        return f"trace:{recorded(folder / 'run.safetensors', model)}"
    if kind == "llamacpp":
        return f"llamacpp:{build(folder, SPEC, 'gguf:F32', fault, stem='run')}"
    if kind == "transformers":
        return f"transformers:{build(folder, SPEC, 'hf:F32', fault, stem='run')}"
    return str(build(folder, SPEC, kind, fault, stem="witness"))


KINDS = [
    "hf:F16",
    "gguf:Q8_0",
    "trace",
    pytest.param("llamacpp", marks=pytest.mark.requires_llamacpp),
    pytest.param("transformers", marks=pytest.mark.requires_transformers),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_witness_agrees_with_the_side_that_is_right(tmp_path: Path, kind: str, side: str) -> None:
    broken, sound = made(tmp_path, "apr:F16", FAULT, "broken"), made(tmp_path, "gguf:F16")
    operands = (broken, sound) if side == "left" else (sound, broken)
    witness = operand(tmp_path, kind)
    report = compared_files(*operands, witness=witness)
    other = "right" if side == "left" else "left"
    assert [stage.name for stage in report.stages if stage.witness is not None] == [STAGE]
    assert report.witness is not None
    [word] = report.witness.stages
    assert (report.witness.operand, word.stage, word.agrees) == (witness, STAGE, other)
    assert getattr(word, side) > 1 >= getattr(word, other)
    assert {finding.side for finding in report.findings} == {"left"}, "the witness changes no accusation"
    label = "GGUF" if side == "left" else "LEFT GGUF"
    text = render(report)
    assert "the witness agrees with" in text
    assert f"Witness {witness} agrees with" in text
    assert f"({other}) at Layer 1 ffn_up" in text
    assert label.split()[-1] in text
    assert f"Witness {witness} agrees with" in html.render(report)


def test_witness_of_a_third_opinion_agrees_with_neither(tmp_path: Path) -> None:
    broken, sound = made(tmp_path, "apr:F16", FAULT, "broken"), made(tmp_path, "gguf:F16")
    third = made(tmp_path, "hf:F16", faults.scaled("blk.1.ffn_up.weight", -1.5), "third")
    report = compared_files(broken, sound, witness=third)
    assert report.witness is not None
    assert [(word.stage, word.agrees) for word in report.witness.stages] == [(STAGE, "neither")]
    assert "agrees with neither at Layer 1 ffn_up" in render(report)


def test_three_equal_sides_leave_it_nothing_to_say(tmp_path: Path) -> None:
    report = compared_files(
        made(tmp_path, "apr:F16"), made(tmp_path, "gguf:F16"), witness=made(tmp_path, "hf:F16", stem="third")
    )
    assert report.verdict == "match"
    assert report.witness is not None
    assert report.witness.stages == []
    assert "has nothing to say, no stage is at fault" in render(report)


def test_two_faults_on_two_sides_are_told_apart(tmp_path: Path) -> None:
    left = made(tmp_path, "apr:F16", faults.scaled("blk.0.attn_k.weight", 2.0), "left")
    right = made(tmp_path, "gguf:F16", FAULT, "right")
    report = compared_files(left, right, witness=made(tmp_path, "hf:F16", stem="third"))
    assert report.witness is not None
    assert {word.stage: word.agrees for word in report.witness.stages} == {
        "layers.0.k": "right", STAGE: "left",
    }  # fmt: skip


def test_stage_that_a_side_cannot_compute_is_judged_by_the_other(tmp_path: Path) -> None:
    broken = made(tmp_path, "apr:F16", faults.transposed("blk.0.attn_k.weight"), "broken")
    report = compared_files(
        broken, made(tmp_path, "gguf:F16"), witness=made(tmp_path, "hf:F16", stem="third")
    )
    assert report.witness is not None
    assert [(word.stage, word.agrees) for word in report.witness.stages] == [("layers.0.k", "right")]


def test_recorded_side_and_recorded_witness_are_held_to_each_other_as_they_are(tmp_path: Path) -> None:
    reference = recorded(
        tmp_path / "reference.safetensors", build(tmp_path, SPEC, "gguf:F32", FAULT, stem="reference")
    )
    report = compared_files(
        made(tmp_path, "gguf:F16"), f"trace:{reference}", witness=operand(tmp_path, "trace"), tokens=None
    )
    assert report.witness is not None
    assert [(word.stage, word.agrees) for word in report.witness.stages] == [(STAGE, "left")]


def test_stage_that_the_witness_does_not_show_is_no_word(tmp_path: Path) -> None:
    model = build(tmp_path, SPEC, "gguf:F32", stem="run")
    trace = recorded(
        tmp_path / "run.safetensors", model, edit=lambda stages: ((n, x) for n, x in stages if n != STAGE)
    )
    report = compared_files(
        made(tmp_path, "apr:F16", FAULT, "broken"), made(tmp_path, "gguf:F16"), witness=f"trace:{trace}"
    )
    assert report.witness is not None
    assert [(word.agrees, word.left, word.right) for word in report.witness.stages] == [(None, None, None)]
    assert "cannot say at Layer 1 ffn_up" in render(report)


@pytest.mark.requires_llamacpp
@pytest.mark.requires_transformers
def test_two_runtimes_may_have_a_file_as_witness(tmp_path: Path) -> None:
    broken = build(tmp_path, SPEC, "gguf:F32", FAULT, stem="broken")
    folder = build(tmp_path, SPEC, "hf:F32", stem="folder")
    report = compared_files(
        f"llamacpp:{broken}", f"transformers:{folder}", witness=made(tmp_path, "gguf:F16", stem="third"),
        runtime_options={"kv": "f32", "dtype": "float32"},
    )  # fmt: skip
    assert report.witness is not None
    assert {word.stage: word.agrees for word in report.witness.stages}[STAGE] == "right"


def test_command_line_takes_it_and_the_json_has_it(tmp_path: Path, compare: Compare) -> None:
    run = compare(
        made(tmp_path, "apr:F16", FAULT, "broken"), made(tmp_path, "gguf:F16"),
        "--tokens", ",".join(map(str, TOKENS)), "--witness", made(tmp_path, "hf:F16", stem="third"), "--assert-match",
    )  # fmt: skip
    assert run.exit_code == 1
    [word] = run.report["witness"]["stages"]
    assert (word["stage"], word["agrees"]) == (STAGE, "right")
    [stage] = [stage for stage in run.report["stages"] if stage["name"] == STAGE]
    assert stage["witness"] == "right"


def test_witness_of_other_tokens_is_refused(tmp_path: Path) -> None:
    trace = recorded(
        tmp_path / "run.safetensors", build(tmp_path, SPEC, "gguf:F32", stem="run"), tokens=[1, 2, 3]
    )
    with pytest.raises(RosettaError, match="was recorded with other tokens"):
        compared_files(
            made(tmp_path, "apr:F16", FAULT, "broken"), made(tmp_path, "gguf:F16"), witness=f"trace:{trace}"
        )


def test_witness_that_is_not_there_is_refused_before_anything_is_computed(
    tmp_path: Path, compare: Compare
) -> None:
    run = compare(made(tmp_path, "apr:F16"), made(tmp_path, "gguf:F16"), "--witness", str(tmp_path / "gone"))
    assert run.exit_code == 2
    assert "gone" in run.stderr
