"""aprender's stage files as a side: every stage that is ours is compared, every other one named."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fixtures import build, faults
from fixtures.causes import Cause, assert_clean, assert_proven
from fixtures.comparing import TOKENS, compared_files, tiny
from fixtures.stages import transformers_stages
from rosetta.errors import RosettaError, UsageError
from rosetta.model import open_model
from rosetta.runtimes.torch import run_stages
from tests.conftest import Compare

pytestmark = pytest.mark.requires_transformers

STEMS = {
    "attn_norm": "attn_norm", "q_rope": "q_post_rope", "k_rope": "k_post_rope", "attn_scores": "attn_softmax",
    "attn_context": "attention", "attn_out": "attn_out", "attn_residual": "post_attn_residual",
    "ffn_norm": "ffn_norm", "ffn_gate": "ffn_gate", "ffn_up": "ffn_up", "ffn_act": "ffn_swigl", "ffn_out": "ffn_out",
    "residual": "post_ffn_residual",
}  # fmt: skip


def write(path: Path, layer: int, x: Tensor | np.ndarray[Any, Any]) -> None:
    """One stage file, as aprender's contract describes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(x, dtype="<f4")
    path.write_bytes(b"APRT" + struct.pack("<II", layer, values.size) + values.tobytes())


def dumped(folder: Path, stages: dict[str, Tensor], bias: bool = True) -> Path:
    """A run of transformers as aprender dumps one: the head of the last token, q, k and v in one file."""
    out = folder / "dump"
    for name, x in stages.items():
        *_, layer, op = ("", *name.split("."))
        if op in STEMS:
            write(out / f"layer-{layer}" / f"{STEMS[op]}.bin", int(layer), x)
    write(out / "layer-0" / "embedding.bin", 0, stages["embedding"])
    for layer in range(2):
        qkv = torch.cat([stages[f"layers.{layer}.{part}"].flatten(1) for part in ("q", "k", "v")], 1)
        write(out / f"layer-{layer}" / f"{'qkv_bias' if bias else 'qkv_matmul'}.bin", layer, qkv)
        gate = stages[f"layers.{layer}.ffn_gate"]
        write(out / f"layer-{layer}" / "ffn_silu.bin", layer, torch.nn.functional.silu(gate))
    write(out / "final_norm.bin", 2**32 - 1, stages["final_norm"])
    write(out / "lm_head.bin", 2**32 - 1, stages["logits"][-1])
    return out


def of_transformers(folder: Path, name: str) -> Path:
    source = build(folder, tiny(name), "hf:F32", stem="source")
    return dumped(folder, transformers_stages(source, TOKENS), bias=name == "qwen2")


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_run_of_another_runtime_matches_stage_by_stage(tmp_path: Path, transformers: Any, name: str) -> None:
    dump = of_transformers(tmp_path, name)
    report = compared_files(build(tmp_path, tiny(name), "gguf:F32"), f"trace:{dump}")
    assert_clean(report)
    assert report.verdict == "match"
    assert [s.name for s in report.stages if s.status == "skipped"] == []
    assert any("not compared: layer-0/ffn_silu.bin, layer-1/ffn_silu.bin" in note for note in report.notes)
    assert any("of the last token only" in note for note in report.notes)
    assert any("other rotary order" in note for note in report.notes) == (name == "llama")
    assert report.logits is not None
    assert report.logits.argmax_match
    recorded_side = report.logits.nll.right
    assert recorded_side is None, "of one position no likelihood of the prompt is told"
    assert report.right.file_bytes == sum(file.stat().st_size for file in dump.rglob("*.bin"))


def test_planted_fault_is_found_and_proven(tmp_path: Path, transformers: Any) -> None:
    dump = of_transformers(tmp_path, "qwen2")
    broken = build(tmp_path, tiny("qwen2"), "gguf:F16", faults.transposed("blk.1.attn_q.weight"))
    report = compared_files(broken, f"trace:{dump}")
    assert_proven(report, "layers.1.q", Cause("layout.transposed", "blk.1.attn_q.weight"))


def test_head_of_the_last_token_tells_a_wrong_one(tmp_path: Path, transformers: Any) -> None:
    dump = of_transformers(tmp_path, "qwen2")
    broken = build(tmp_path, tiny("qwen2", tied=False), "gguf:F32", faults.scaled("output.weight", 2.0))
    report = compared_files(broken, f"trace:{dump}")
    assert report.verdict == "divergent"
    assert report.stages[-1].status == "faulty"


def test_queries_that_are_normed_before_the_stage_are_not_compared(tmp_path: Path, transformers: Any) -> None:
    model = build(tmp_path, tiny("qwen3"), "gguf:F32")
    dump = dumped(tmp_path, dict(run_stages(open_model(model), list(TOKENS))), bias=False)
    report = compared_files(model, f"trace:{dump}")
    assert {s.op for s in report.stages if s.status == "skipped"} == {"q", "k"}


def test_some_stages_of_some_layers_are_a_dump_too(tmp_path: Path, transformers: Any) -> None:
    dump = of_transformers(tmp_path, "qwen2")
    kept = {"layer-0/embedding.bin", "layer-1/ffn_gate.bin", "layer-1/ffn_swigl.bin"}
    for file in dump.rglob("*.bin"):
        if file.relative_to(dump).as_posix() not in kept:
            file.unlink()
    report = compared_files(build(tmp_path, tiny("qwen2"), "gguf:Q8_0"), f"trace:{dump}")
    assert_clean(report)
    assert [s.name for s in report.stages if s.max_diff is not None] == [
        "embedding", "layers.1.ffn_gate", "layers.1.ffn_act",
    ]  # fmt: skip


def test_nothing_that_is_a_stage_of_ours_is_no_pass(tmp_path: Path, compare: Compare) -> None:
    write(tmp_path / "dump" / "layer-0" / "ffn_silu.bin", 0, np.ones(4 * 96))
    write(tmp_path / "dump" / "layer-0" / "mystery.bin", 0, np.ones(4 * 96))
    run = compare(build(tmp_path, tiny("qwen2"), "gguf:F32"), f"trace:{tmp_path / 'dump'}", "--assert-match")
    assert run.exit_code == 3
    assert run.report["verdict"] == "inconclusive"
    assert any("no stage of aprender's is called mystery" in note for note in run.report["notes"])


def test_other_number_of_tokens_is_said(tmp_path: Path) -> None:
    write(tmp_path / "dump" / "layer-0" / "attn_norm.bin", 0, np.ones(7 * 64))
    model = build(tmp_path, tiny("qwen2"), "gguf:F32")
    with pytest.raises(
        UsageError, match=r"attn_norm\.bin: holds 448 values, which are not 64 each of the tokens"
    ):
        compared_files(model, f"trace:{tmp_path / 'dump'}")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda raw: raw[:-2],
    "longer": lambda raw: raw + b"\0",
    "another layer": lambda raw: raw[:4] + struct.pack("<I", 5) + raw[8:],
    "absurd count": lambda raw: raw[:8] + struct.pack("<I", 2**32 - 1) + raw[12:],
    "header cut": lambda raw: raw[:9],
    "empty": lambda raw: b"",
    "another magic": lambda raw: b"APRX" + raw[4:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file_is_refused_in_a_sentence(tmp_path: Path, damage: str) -> None:
    dump = tmp_path / "dump"
    write(dump / "layer-0" / "attn_norm.bin", 0, np.ones(len(TOKENS) * 64))
    write(dump / "layer-1" / "attn_norm.bin", 1, np.ones(len(TOKENS) * 64))
    file = dump / "layer-1" / "attn_norm.bin"
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(RosettaError) as raised:
        compared_files(build(tmp_path, tiny("qwen2"), "gguf:F32"), f"trace:{dump}")
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("files", [[], ["notes.txt"], ["layer-0/attn_norm.bin"]])
def test_folder_without_a_stage_file_is_refused_in_a_sentence(tmp_path: Path, files: Iterable[str]) -> None:
    dump = tmp_path / "dump"
    dump.mkdir()
    for name in files:
        (dump / name).parent.mkdir(exist_ok=True)
        (dump / name).write_bytes(b"something else")
    with pytest.raises(UsageError, match="holds no run that rosetta reads"):
        compared_files(build(tmp_path, tiny("qwen2"), "gguf:F32"), f"trace:{dump}")
