"""`rosetta inspect`: what it says of files of every container, and of files that rosetta cannot run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from fixtures import build
from fixtures.faults import norm_epsilon
from rosetta import cli
from rosetta.inspection.facts import Inspection, inspection
from rosetta.inspection.text import render

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `rosetta inspect`."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.run(["inspect", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A GGUF file of an architecture that rosetta does not run."""
    writer = gguf.GGUFWriter(tmp_path / "foreign.gguf", "mamba9")
    writer.add_block_count(7)
    writer.add_tensor("odd.tensor", np.arange(8, dtype=np.float32).reshape(2, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "foreign.gguf"


@pytest.mark.parametrize("operand", ["apr:F16", "gguf:Q8_0"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_facts_are_the_files(tmp_path: Path, architecture: str, operand: str) -> None:
    path = build(tmp_path, architecture, operand)
    facts = inspection(path)
    assert facts.container == operand.split(":")[0]
    assert facts.supported
    assert facts.file_bytes == path.stat().st_size
    config = {item.key: item for item in facts.config}
    assert config["architecture"].value == architecture
    assert not config["block_count"].defaulted
    assert config["block_count"].source_key
    assert sum(facts.dtypes.values()) == len(facts.tensors)
    assert {tensor.canonical for tensor in facts.tensors} >= {"token_embd.weight", "output_norm.weight"}
    assert all(tensor.statistics is None for tensor in facts.tensors)
    assert facts.tokenizer is not None
    assert facts.tokenizer.vocab_size > 0


def test_tensors_of_a_gguf_are_those_that_gguf_py_reads(tmp_path: Path) -> None:
    path = build(tmp_path, "qwen2", "gguf:Q8_0")
    read = {
        t.name: (t.tensor_type.name, [int(n) for n in t.shape[::-1]]) for t in gguf.GGUFReader(path).tensors
    }
    assert {t.name: (t.dtype, t.dims) for t in inspection(path).tensors} == read


def test_a_fused_tensor_has_its_fused_name(tmp_path: Path) -> None:
    names = {t.name: t.canonical for t in inspection(build(tmp_path, "gpt2", "hf:F32")).tensors}
    assert names["transformer.h.0.attn.c_attn.weight"] == "blk.0.attn_qkv.weight"


def test_what_the_file_lacks_is_said_to_be_defaulted(tmp_path: Path) -> None:
    path = build(tmp_path, "qwen2", "apr:F16", norm_epsilon(None))
    facts = inspection(path)
    (epsilon,) = (item for item in facts.config if item.key == "attention.layer_norm_rms_epsilon")
    assert epsilon.defaulted
    assert epsilon.source_key is None
    (row,) = (
        line for line in render(facts).splitlines() if line.startswith("  attention.layer_norm_rms_epsilon")
    )
    assert "defaulted" in row


def test_a_file_that_cannot_be_run_is_inspected_all_the_same(inspect: Run, foreign: Path) -> None:
    code, out, err = inspect(foreign, "--stats")
    assert (code, err) == (0, "")
    assert "architecture: mamba9" in out
    assert "note: cannot be run: the architecture 'mamba9' is not supported" in out
    assert "block_count  7        mamba9.block_count" in out
    (row,) = (line for line in out.splitlines() if line.startswith("  odd.tensor"))
    assert row.split() == [
        "odd.tensor",
        "F32",
        "[2,",
        "4]",
        "0",
        "7",
        "3.5",
        "2.291",
        "1",
        "0",
        "0",
        "0",
        "1",
        "2",
        "3",
    ]


def test_json_is_strict_and_alone_on_stdout(inspect: Run, tmp_path: Path) -> None:
    path = build(tmp_path, "llama", "gguf:F16")
    code, out, _ = inspect(path, "--stats", "--json", "-")
    document: dict[str, Any] = json.loads(
        out, parse_constant=lambda literal: pytest.fail(f"{literal} is no JSON")
    )
    assert code == 0
    Inspection.model_validate(document)
    assert document["container"] == "gguf"
    assert document["tensors"][0]["statistics"]["first"]


def test_json_to_a_file_leaves_the_text_on_stdout(inspect: Run, tmp_path: Path) -> None:
    path = build(tmp_path, "llama", "gguf:F16")
    _, out, _ = inspect(path, "--json", tmp_path / "facts.json")
    assert out.startswith(f"GGUF: {path}\n")
    assert json.loads((tmp_path / "facts.json").read_text())["path"] == str(path)


def test_a_suspicious_tensor_is_marked_in_its_row(inspect: Run, tmp_path: Path) -> None:
    from fixtures.faults import zeroed

    _, out, _ = inspect(build(tmp_path, "llama", "gguf:F16", zeroed("output_norm.weight")), "--stats")
    (marked,) = (line for line in out.splitlines() if "SUSPICIOUS" in line)
    assert marked.startswith("  output_norm.weight")


def test_without_stats_no_value_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build(tmp_path, "llama", "gguf:F16")
    monkeypatch.setattr("rosetta.inspection.facts.tensor_statistics", lambda *_: pytest.fail("read a tensor"))
    inspection(path)


def test_what_is_no_model_is_refused(inspect: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    code, out, err = inspect(tmp_path / "notes.txt")
    assert (code, out) == (2, "")
    assert err.startswith(f"rosetta: {tmp_path / 'notes.txt'}: ")


@pytest.mark.requires_samples
def test_a_large_vocabulary_without_tensors_is_inspected(samples: Path, inspect: Run) -> None:
    code, out, _ = inspect(samples / "vocabs" / "ggml-vocab-qwen2.gguf")
    assert code == 0
    assert "151936 tokens, 151387 merges" in out
    assert "pre-tokenizer qwen2" in out
