"""The writers of docs/traces in other languages: compiled, run, and what they write is compared with a model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from fixtures import build
from fixtures.causes import assert_clean
from fixtures.comparing import TOKENS, compared_files, faulty, tiny
from rosetta.model import open_model
from rosetta.runtimes.torch import run_facts, run_stages

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "traces"
COMPILERS = {
    "c": ("cc", "-std=c99", "-O1", "-Wall", "-Wextra", "-pedantic", "-Werror"),
    "js": ("node",),
    "rs": ("rustc", "--edition", "2021", "-D", "warnings"),
}
Stages = Sequence[tuple[str, Tensor]]


@cache
def programs() -> TemporaryDirectory[str]:
    """Where compiled writers lie, as long as the tests run."""
    return TemporaryDirectory(prefix="rosetta-writer-")


@cache
def writer(language: str) -> list[str]:
    """The command that a writer is; skips where nothing at hand runs it."""
    compiler, *options = COMPILERS[language]
    found = shutil.which(compiler) or shutil.which(compiler, path=str(Path.home() / ".cargo" / "bin"))
    source = FOLDER / f"write_trace.{language}"
    if found is None:
        pytest.skip(f"no {compiler} is at hand")
    if language == "js":
        return [found, str(source)]
    program = Path(programs().name) / language
    done = subprocess.run([found, *options, str(source), "-o", str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [str(program)]


def written(language: str, out: Path, stages: Stages, facts: object) -> Path:
    """What a writer makes of stages that are handed to it."""
    given = b"".join(
        f"{name} {' '.join(map(str, x.shape))}\n".encode() + np.ascontiguousarray(x, "<f4").tobytes()
        for name, x in stages
    )
    command = [*writer(language), str(out), json.dumps(facts)]
    done = subprocess.run(command, input=given, capture_output=True)
    assert done.returncode == 0, done.stderr
    return out


def run_of(model: Path) -> tuple[Stages, dict[str, object]]:
    opened = open_model(model)
    facts = run_facts(opened, str(model), 'a "quoted" prompt \\ 世界', list(TOKENS), "float32")
    return list(run_stages(opened, TOKENS)), {**facts, "prompt": None, "note": 'a "quoted" \\ 世界'}


@pytest.mark.parametrize("language", COMPILERS)
def test_what_a_writer_writes_matches_the_model_of_the_run(tmp_path: Path, language: str) -> None:
    model = build(tmp_path, tiny("qwen2"), "gguf:F32")
    stages, facts = run_of(model)
    trace = written(language, tmp_path / "run.safetensors", stages, facts)
    with safe_open(trace, framework="pt") as file:
        assert sorted(file.keys()) == sorted(name for name, _ in stages)
        assert all(torch.equal(file.get_tensor(name), x) for name, x in stages)
        assert json.loads(file.metadata()["rosetta"]) == facts
    report = compared_files(model, f"trace:{trace}", tokens=None)
    assert_clean(report)
    assert report.verdict == "match"
    assert report.compared.stages == len(stages)


@pytest.mark.parametrize("language", COMPILERS)
def test_fault_in_what_a_writer_writes_is_found(tmp_path: Path, language: str) -> None:
    model = build(tmp_path, tiny("qwen2"), "gguf:F32")
    stages, facts = run_of(model)
    wrong = [(name, x * 1.01 if name == "layers.1.ffn_act" else x) for name, x in stages]
    trace = written(language, tmp_path / "run.safetensors", wrong, facts)
    report = compared_files(model, f"trace:{trace}", tokens=None)
    assert report.verdict == "divergent"
    assert faulty(report)[0] == "layers.1.ffn_act"


def in_chunks(stages: Stages, sizes: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
    """Each stage as a runtime has it that computes so many tokens at a time."""
    for name, x in stages:
        start = 0
        for size in sizes:
            stop = start + size
            scores = name.endswith("attn_scores")
            yield f"{name}@{start}", x[:, start:stop, :stop] if scores else x[start:stop]
            start = stop


@pytest.mark.parametrize("language", COMPILERS)
def test_prompt_and_then_token_by_token_is_one_run(tmp_path: Path, language: str) -> None:
    model = build(tmp_path, tiny("llama"), "gguf:F32")
    stages, facts = run_of(model)
    sizes = [9, 1, 1, 1]
    trace = written(language, tmp_path / "run.safetensors", list(in_chunks(stages, sizes)), facts)
    report = compared_files(model, f"trace:{trace}", tokens=None)
    assert_clean(report)
    assert report.compared.stages == len(stages)
    wrong = [(name, x + 0.5 if name == "layers.0.v@10" else x) for name, x in in_chunks(stages, sizes)]
    trace = written(language, tmp_path / "wrong.safetensors", wrong, facts)
    report = compared_files(model, f"trace:{trace}", tokens=None)
    assert faulty(report)[0] == "layers.0.v"
    assert report.first_divergence is not None
    assert report.first_divergence.token == 10


def test_page_names_the_writers_and_the_stages_that_a_trace_has(tmp_path: Path) -> None:
    page = (DOCS / "trace-format.md").read_text("utf-8")
    assert {f"write_trace.{language}" for language in COMPILERS} <= set(re.findall(r"write_trace\.\w+", page))
    stages, _ = run_of(build(tmp_path, tiny("llama"), "gguf:F32"))
    documented = set(re.findall(r"`(?:layers\.0\.)?(\w+)`", page))
    assert {name.rpartition(".")[2] for name, _ in stages} <= documented
