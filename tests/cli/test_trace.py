"""`rosetta trace` writes a run that any safetensors reader reads and that a comparison takes as an operand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from fixtures import build, faults
from fixtures.architectures import RECIPES
from fixtures.comparing import tiny
from fixtures.recipes import build_folder
from fixtures.tokenizer import vocabulary
from tests.conftest import Compare

Rosetta = Callable[..., Any]
OPS = 16  # stages of a llama's layer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return build(tmp_path, tiny("llama"), "gguf:F16")


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        return {name: file.get_tensor(name) for name in names}, json.loads(file.metadata()["rosetta"])


def test_prompt_is_run_and_every_stage_written(rosetta: Rosetta, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    result = rosetta("trace", model, "--prompt", "2+2=", "-o", path)
    assert (result.code, result.out) == (0, f"{path}: {1 + OPS * 2 + 2} stages of 4 tokens\n")
    assert "[GGUF-LOAD]" in result.err
    stages, facts = read(path)
    assert len(stages) == 1 + OPS * 2 + 2
    assert {x.dtype for x in stages.values()} == {torch.float32}
    assert stages["layers.1.q"].shape == (4, 4, 16)
    assert stages["logits"].shape == (4, 384)
    assert facts["prompt"] == "2+2="
    assert facts["tokens"] == [vocabulary().tokens.index(piece) for piece in "2+2="]


def test_the_prompt_is_the_default_one_where_none_is_given(
    rosetta: Rosetta, model: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    rosetta("trace", model, "-o", paths[0])
    rosetta("trace", model, "--prompt", "2+2=", "-o", paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes(), "the same run is the same file"


def test_ids_are_run_as_they_are(rosetta: Rosetta, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    assert rosetta("trace", model, "--tokens", "17,10,300", "-o", path, "-q").code == 0
    stages, facts = read(path)
    assert (facts["tokens"], facts["prompt"]) == ([17, 10, 300], None)
    assert len(stages["embedding"]) == 3


def test_prompt_of_a_file_loses_its_last_line_break_only(
    rosetta: Rosetta, model: Path, tmp_path: Path
) -> None:
    text, path = tmp_path / "prompt.txt", tmp_path / "run.safetensors"
    text.write_text("2+2=\n\n", "utf-8")
    assert rosetta("trace", model, "--prompt-file", text, "-o", path).code == 0
    assert read(path)[1]["prompt"] == "2+2=\n"


def test_quiet_says_nothing(rosetta: Rosetta, model: Path, tmp_path: Path) -> None:
    result = rosetta("trace", model, "-q", "-o", tmp_path / "run.safetensors")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_float64_is_computed_and_float32_written(rosetta: Rosetta, model: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "32.safetensors", tmp_path / "64.safetensors"]
    for path, dtype in zip(paths, ("float32", "float64"), strict=True):
        rosetta("trace", model, "--dtype", dtype, "-o", path)
    (single, _), (double, facts) = map(read, paths)
    assert facts["dtype"] == "float64"
    gap = float((single["logits"] - double["logits"]).abs().max())
    assert double["logits"].dtype == torch.float32
    assert 0 < gap < 1e-5


@pytest.mark.parametrize(
    ("fault", "code", "word"), [((), 0, "MATCHED"), (faults.transposed("blk.0.attn_q.weight"), 1, "FAILED")]
)
def test_trace_is_an_operand(
    rosetta: Rosetta, model: Path, tmp_path: Path, fault: Any, code: int, word: str
) -> None:
    path = tmp_path / "run.safetensors"
    rosetta("trace", model, "--tokens", "17,10,300,5", "-o", path)
    other = build(tmp_path, tiny("llama"), "gguf:F16", fault, stem="other")
    result = rosetta(other, f"trace:{path}", "--assert-match")
    assert result.code == code, result.out + result.err
    assert word in result.out
    assert ("needs transpose" in result.out) == (code == 1)


@pytest.mark.requires_transformers
@pytest.mark.parametrize("container", ["hf:F32", "gguf:F32"])
def test_what_transformers_computes_is_recorded_and_an_operand(
    rosetta: Rosetta, tmp_path: Path, container: str
) -> None:
    folder, path = build(tmp_path, tiny("llama"), "hf:F32"), tmp_path / "run.safetensors"
    result = rosetta("trace", f"transformers:{folder}", "--tokens", "17,10,300,5", "-o", path)
    assert (result.code, result.out) == (0, f"{path}: {1 + OPS * 2 + 2} stages of 4 tokens\n"), result.err
    _, facts = read(path)
    assert facts["runtime"] == "transformers"
    assert facts["operand"] == f"transformers:{folder}"
    assert facts["rope_order"] == "interleaved", "queries and keys as GGUF has them"
    result = rosetta(build(tmp_path, tiny("llama"), container), f"trace:{path}", "--assert-match", "--strict")
    assert result.code == 0, result.out + result.err
    assert "run by transformers" in result.out


@pytest.mark.requires_llamacpp
def test_what_llama_cpp_computes_is_recorded_and_an_operand(
    rosetta: Rosetta, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.safetensors"
    result = rosetta("trace", f"llamacpp:{model}", "--runtime-option", "flash_attn=on", "-o", path)
    assert result.code == 0, result.err
    stages, facts = read(path)
    assert "layers.0.attn_scores" not in stages, "one operation with flash attention"
    assert facts["runtime_options"]["flash_attn"] == "on"
    assert facts["prompt"] == "2+2="
    assert rosetta(model, f"trace:{path}", "--assert-match").code == 0


@pytest.mark.requires_llamacpp
def test_a_run_that_fails_leaves_no_trace(rosetta: Rosetta, tmp_path: Path) -> None:
    broken = build(tmp_path, tiny("llama"), "gguf:F32", faults.dropped("blk.1.attn_q.weight"))
    path = tmp_path / "run.safetensors"
    result = rosetta("trace", f"llamacpp:{broken}", "-o", path)
    assert result.code == 2
    assert "llamacpp does not run it" in result.err
    assert not path.exists()


def test_options_of_another_runtime_are_refused(rosetta: Rosetta, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    for operand, options, said in [
        (model, ["--runtime-option", "kv=f16"], "--runtime-option is of a runtime"),
        (f"llamacpp:{model}", ["--dtype", "float64"], "--device and --dtype are not llamacpp's"),
        (f"llamacpp:{model}", ["--runtime-option", "dtype=bfloat16"], "has an option 'dtype'"),
        (f"trace:{path}", [], "a trace is recorded already"),
    ]:
        result = rosetta("trace", operand, *options, "-o", path)
        assert result.code == 2
        assert said in result.err


def test_two_traces_have_no_model_to_run(rosetta: Rosetta, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    rosetta("trace", model, "-o", path)
    result = rosetta(f"trace:{path}", f"trace:{path}")
    assert result.code == 2
    assert "two traces have no model to run" in result.err


REFUSED = [
    (["-o", "-"], "a trace cannot go to stdout"),
    (["-o", "nowhere/run.safetensors"], "nowhere"),
    (["--tokens", "17,999", "-o", "run.safetensors"], "token id 999 is beyond the vocabulary of 384"),
    (["--tokens", "17,x", "-o", "run.safetensors"], "17,x"),
    (["--prompt", "", "-o", "run.safetensors"], "the prompt has no tokens"),
    (["--prompt", "a", "--tokens", "1", "-o", "run.safetensors"], "--tokens"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_cannot_be_run_is_one_sentence_and_no_file(
    rosetta: Rosetta, model: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(model.parent)
    result = rosetta("trace", model, "-q", *arguments)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert list(model.parent.iterdir()) == [model]


def test_broken_file_leaves_no_half_trace(rosetta: Rosetta, tmp_path: Path) -> None:
    broken = build(tmp_path, tiny("llama"), "gguf:F16", faults.dims_swapped("blk.1.ffn_up.weight"))
    result = rosetta("trace", broken, "-o", tmp_path / "run.safetensors", "-q")
    assert result.code == 2
    assert "the stage after layers.1.ffn_gate cannot be computed" in result.err
    assert list(tmp_path.iterdir()) == [broken]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_recording_is_of_float32_whatever_the_file_is_computed_in(
    compare: Compare, rosetta: Rosetta, model: Path, tmp_path: Path, dtype: str
) -> None:
    path = tmp_path / "run.safetensors"
    assert rosetta("trace", model, "-q", "-o", path).code == 0
    run = compare(f"trace:{path}", model, "--dtype", dtype, "--assert-match", "--strict")
    assert (run.exit_code, run.report["findings"]) == (0, [])


@pytest.mark.parametrize("arguments", [("trace:{}",), ("{}", "--prompt", "auto")])
def test_what_is_no_model_or_no_prompt_of_one_is_refused(
    rosetta: Rosetta, model: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = rosetta("trace", *(text.format(model) for text in arguments), "-o", tmp_path / "run.safetensors")
    assert result.code == 2
    assert "check the path" not in result.err
    assert not (tmp_path / "run.safetensors").exists()


@pytest.mark.requires_transformers
@pytest.mark.parametrize("recipe", ["deepseek2-v3", "llama4"])
def test_rotary_rows_are_stated_as_they_are_turned(rosetta: Rosetta, tmp_path: Path, recipe: str) -> None:
    folder, path = build_folder(tmp_path / "hf", RECIPES[recipe]), tmp_path / "run.safetensors"
    assert rosetta("trace", folder, "--tokens", "17,10,300,5", "-o", path, "-q").code == 0
    result = rosetta(folder, f"trace:{path}", "--assert-match", "--strict")
    assert result.code == 0, result.out
