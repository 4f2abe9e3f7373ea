"""Fused projections in a recording are compared as the stages that they hold, however their rows are arranged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fixtures import build, faults
from fixtures.architectures import RECIPES
from fixtures.causes import Cause, assert_clean, assert_proven
from fixtures.comparing import TOKENS, compared_files, tiny
from fixtures.recipes import build_folder
from fixtures.recording import recorded


def fused(stages: Any) -> Any:
    """Queries, keys and values as one tensor, gate and up as one."""
    held: dict[str, torch.Tensor] = {}
    for name, x in stages:
        prefix, _, op = name.rpartition(".")
        held[op] = x.flatten(1)
        if op == "v":
            yield f"{prefix}.attn_qkv", torch.cat([held["q"], held["k"], held["v"]], 1)
        elif op == "ffn_up" and "ffn_gate" in held:
            yield f"{prefix}.ffn_gate_up", torch.cat([held["ffn_gate"], held["ffn_up"]], 1)
        elif op not in ("q", "k", "ffn_gate"):
            yield name, x


@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral"])
def test_fused_stages_are_compared_as_their_parts(tmp_path: Path, name: str) -> None:
    model = build(tmp_path, tiny(name), "gguf:F16")
    trace = recorded(tmp_path / "run.safetensors", model, edit=fused)
    report = compared_files(model, f"trace:{trace}", tokens=None)
    assert_clean(report)
    assert [s.name for s in report.stages if s.status == "skipped"] == []
    assert sum("which it holds" in note for note in report.notes) == 2


def test_fault_in_a_part_is_found_in_it(tmp_path: Path) -> None:
    model = build(tmp_path, tiny("llama"), "gguf:F16", stem="run")
    trace = recorded(tmp_path / "run.safetensors", model, edit=fused)
    broken = build(tmp_path, tiny("llama"), "gguf:F16", faults.scaled("blk.1.attn_k.weight", 2.0))
    report = compared_files(broken, f"trace:{trace}", tokens=None)
    assert_proven(report, "layers.1.k", Cause("value.scaled", "blk.1.attn_k.weight", actual=2.0))


def test_queries_that_are_normed_first_are_not_compared_and_said_so(tmp_path: Path) -> None:
    model = build(tmp_path, tiny("qwen3"), "gguf:F16")
    trace = recorded(tmp_path / "run.safetensors", model, edit=fused)
    report = compared_files(model, f"trace:{trace}", tokens=None)
    assert {s.op for s in report.stages if s.status == "skipped"} == {"q", "k"}
    assert any("q and k not, for they are normed" in note for note in report.notes)


@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    ("name", "module", "how"),
    [("gptneox", "attention.query_key_value", ", by kv head"), ("gpt2", "attn.c_attn", "which it holds")],
)
def test_parts_of_a_projection_of_transformers_are_told_by_the_model(
    tmp_path: Path, name: str, module: str, how: str
) -> None:
    transformers = pytest.importorskip("transformers")
    spec = tiny("gpt2")
    folder = (
        build(tmp_path, spec, "hf:F32") if name == "gpt2" else build_folder(tmp_path / "hf", RECIPES[name])
    )
    live = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    seen: dict[str, torch.Tensor] = {}
    for path, part in live.named_modules():
        layer = next((word for word in path.split(".") if word.isdigit()), None)
        if path.endswith(module):
            part.register_forward_hook(
                lambda _m, given, out, n=layer: seen.update(
                    {f"layers.{n}.attn_norm": given[0][0], f"layers.{n}.attn_qkv": out[0]}
                )
            )
    with torch.no_grad():
        live(torch.tensor([list(TOKENS)]))
    trace = tmp_path / "run.safetensors"
    kept = {key: x.contiguous().clone() for key, x in seen.items()}
    save_file(kept, trace, metadata={"rosetta": json.dumps({"tokens": list(TOKENS)})})
    report = compared_files(folder, f"trace:{trace}", tokens=None)
    assert report.compared.stages == 4 * (len(seen) // 2)
    assert [s.name for s in report.stages if s.status == "faulty"] == []
    assert any(how in note for note in report.notes), report.notes
