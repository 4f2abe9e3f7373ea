"""One file judged by itself: what is found in a broken one, and nothing in a trained one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fixtures import build
from fixtures.faults import dims_swapped, nonfinite, zeroed
from rosetta.inspection import check as module
from rosetta.inspection.check import check
from rosetta.inspection.check_text import render
from rosetta.inspection.through_llamacpp import is_installed, through_llamacpp
from rosetta.report.report import schema_text

TINY = "llama"


@pytest.mark.timeout(400)  # it reads and runs 135 M weights three times
@pytest.mark.sweep
def test_a_trained_model_is_right(smollm2: Path) -> None:
    found = check(smollm2)
    assert (found.verdict, found.findings) == ("right", [])
    runtimes = {prompt.runtime for prompt in found.prompts}
    assert runtimes == ({"torch", "llamacpp"} if is_installed() else {"torch"})
    assert all(prompt.nll is not None and prompt.nll < prompt.uniform / 2 for prompt in found.prompts)


def test_prompts_whose_tokens_are_all_beyond_the_stated_vocabulary_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_installed", lambda: False)
    folder = build(tmp_path, TINY, "hf:F16")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 4}), "utf-8")
    found = check(folder)
    said = [one.message for one in found.findings if one.part == "forward"]
    assert found.verdict == "wrong"
    assert found.prompts == []
    assert len(said) == len(module.PROMPTS)
    assert all("has no token below the vocabulary's size, 4" in message for message in said)


@pytest.mark.parametrize(
    ("fault", "part", "said"),
    [
        (
            nonfinite("blk.0.ffn_up.weight"),
            "values",
            "blk.0.ffn_up.weight: 1 of 131,072 values are NaN or Inf (V401)",
        ),
        (
            zeroed("blk.1.attn_k.weight"),
            "values",
            "blk.1.attn_k.weight: all its 32,768 values are zero (V402)",
        ),
        (
            dims_swapped("blk.0.attn_k.weight"),
            "header",
            "has dims [256, 128], and the config says [128, 256] (C220)",
        ),
    ],
)
def test_a_broken_file_is_wrong_by_its_own_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any, part: str, said: str
) -> None:
    monkeypatch.setattr(module, "is_installed", lambda: False)
    found = check(build(tmp_path, TINY, "gguf:F16", fault))
    assert found.verdict == "wrong"
    assert [
        one for one in found.findings if one.part == part and said in one.message and one.severity == "error"
    ]
    assert ("llama.cpp is not installed" in " ".join(found.notes)) == bool(found.prompts)


def test_random_weights_predict_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONTINUED", 2)
    found = check(build(tmp_path, TINY, "hf:BF16"))
    assert found.verdict == "wrong"
    assert "it predicts nothing" in found.reason
    assert any("never trained" in one.message for one in found.findings)


@pytest.mark.requires_llamacpp
def test_what_llamacpp_refuses_is_said(tmp_path: Path) -> None:
    path = build(tmp_path, TINY, "gguf:F16", dims_swapped("blk.0.attn_k.weight"))
    found = through_llamacpp(path, [("a", [1, 2])], 1)
    assert isinstance(found, str)
    assert found.startswith("llama.cpp does not run it")


@pytest.mark.requires_llamacpp
def test_llamacpp_gives_costs_and_a_continuation(tmp_path: Path) -> None:
    found = through_llamacpp(build(tmp_path, TINY, "gguf:F16"), [("a b", [1, 2, 3])], 4)
    assert not isinstance(found, str)
    (run,) = found
    assert run.nonfinite == 0
    assert run.nll is not None
    assert len(run.said) == 4


@pytest.mark.parametrize(
    ("said", "repeats"),
    [
        ([7] * 16, True),
        ([1, 2] * 8, True),
        ([*range(16)], False),
        ([1, 2, 3, 4] * 4, False),
        ([7] * 3, False),
    ],
)
def test_tokens_that_go_round_in_a_circle_repeat(said: list[int], repeats: bool) -> None:
    assert module._repeats(said) == repeats


def test_the_command_prints_and_exits_by_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rosetta import cli

    monkeypatch.setattr(module, "CONTINUED", 2)
    monkeypatch.setattr(module, "is_installed", lambda: False)
    path = build(tmp_path, TINY, "gguf:F16", zeroed("blk.1.attn_k.weight"))
    assert cli.run(["check", str(path), "--json", str(tmp_path / "check.json")]) == 1
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "check.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(json.loads(schema_text(module.Check))).validate(report)
    assert report["verdict"] == "wrong"
    assert "  values of every tensor ✗\n" in out
    assert out.splitlines()[-1].startswith("WRONG: blk.1.attn_k.weight: all its")
    assert cli.run(["check", str(tmp_path / "none.gguf")]) == 2


@pytest.mark.parametrize("render_at", [40, 80])
def test_a_check_fits_the_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, render_at: int) -> None:
    from rosetta.report.screen import wrapped

    monkeypatch.setattr(module, "CONTINUED", 2)
    found = check(build(tmp_path, TINY, "hf:BF16"))
    assert max(map(len, wrapped(render(found, render_at), render_at).splitlines())) <= render_at
