"""The tree that transformers' model_addition_debugger writes, made by transformers itself, as a side."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures import build, faults
from fixtures.architectures import RECIPES
from fixtures.causes import Cause, assert_clean, assert_proven
from fixtures.comparing import TOKENS, compared_files, faulty, tiny
from fixtures.recipes import build_folder
from rosetta.errors import RosettaError, UnsupportedError
from tests.conftest import Compare

pytestmark = pytest.mark.requires_transformers


def dumped(folder: Path, model: Path, ids: Any = (TOKENS,), **options: Any) -> Path:
    """What transformers writes of one call."""
    transformers = pytest.importorskip("transformers")
    debugging = pytest.importorskip("transformers.model_debugging_utils")
    live = transformers.AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager"
    )
    place = folder / "tree"
    told = {"do_prune_layers": False, "use_repr": False, **options}
    with debugging.model_addition_debugger_context(live, debug_path=str(place), **told):
        live.forward(torch.tensor([list(text) for text in ids]))
    return place


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("llama", {"q_rope", "k_rope", "attn_scores"}),
        ("qwen2", {"q_rope", "k_rope", "attn_scores"}),
        ("qwen3", {"q_rope", "k_rope", "attn_scores"}),
        ("gpt2", {"attn_scores"}),
    ],
)
def test_tree_matches_the_model_that_it_was_made_of(tmp_path: Path, name: str, absent: set[str]) -> None:
    tree = dumped(tmp_path, build(tmp_path, tiny(name), "hf:F32", stem="source"))
    report = compared_files(build(tmp_path, tiny(name), "gguf:F32"), f"trace:{tree}", tokens=None)
    assert_clean(report)
    assert report.verdict == "match"
    assert {s.op for s in report.stages if s.status == "skipped"} == absent
    assert report.tokens.right == list(TOKENS)
    assert any("other rotary order" in note for note in report.notes) == (name == "llama")


@pytest.mark.parametrize("name", ["phi3", "gptneox", "gemma3", "olmo2", "qwen3moe", "mamba", "cohere2"])
def test_other_architectures_are_compared_as_far_as_the_tree_tells(tmp_path: Path, name: str) -> None:
    folder = build_folder(tmp_path / "hf", RECIPES[name])
    report = compared_files(folder, f"trace:{dumped(tmp_path, folder)}", tokens=None)
    assert faulty(report) == []
    assert report.verdict in ("match", "drift")
    assert report.compared.stages >= len(report.stages) // 3


def test_fault_of_a_file_is_found_and_proven(tmp_path: Path) -> None:
    tree = dumped(tmp_path, build(tmp_path, tiny("llama"), "hf:F32", stem="source"))
    broken = build(tmp_path, tiny("llama"), "gguf:F16", faults.offset("blk.1.ffn_norm.weight", 1.0))
    report = compared_files(broken, f"trace:{tree}", tokens=None)
    assert_proven(report, "layers.1.ffn_norm", Cause("value.offset", "blk.1.ffn_norm.weight", actual=1.0))


def test_pruned_layers_are_said_and_leave_no_fault(tmp_path: Path) -> None:
    spec = tiny("qwen2", layers=4)
    tree = dumped(tmp_path, build(tmp_path, spec, "hf:F32", stem="source"), do_prune_layers=True)
    report = compared_files(build(tmp_path, spec, "gguf:Q8_0"), f"trace:{tree}", tokens=None)
    assert_clean(report)
    assert any("has nothing of 1 layers, the first 1" in note for note in report.notes)


def test_one_file_of_the_folder_may_be_given(tmp_path: Path) -> None:
    tree = dumped(tmp_path, build(tmp_path, tiny("qwen2"), "hf:F32", stem="source"))
    [file] = tree.glob("*_FULL_TENSORS.json")
    report = compared_files(build(tmp_path, tiny("qwen2"), "gguf:F32"), f"trace:{file}", tokens=None)
    assert report.verdict == "match"


def test_printed_tensors_are_refused_with_the_call_that_keeps_them(tmp_path: Path) -> None:
    tree = dumped(tmp_path, build(tmp_path, tiny("qwen2"), "hf:F32", stem="source"), use_repr=True)
    with pytest.raises(UnsupportedError, match="use_repr=False"):
        compared_files(build(tmp_path, tiny("qwen2"), "gguf:F32"), f"trace:{tree}", tokens=None)


def test_two_texts_at_once_are_refused(tmp_path: Path) -> None:
    source = build(tmp_path, tiny("qwen2"), "hf:F32", stem="source")
    tree = dumped(tmp_path, source, ids=(TOKENS, TOKENS))
    with pytest.raises(RosettaError, match=r"input of dims \[2, 12\]"):
        compared_files(source, f"trace:{tree}", tokens=None)


def test_other_tokens_than_the_dumped_ones_are_refused(tmp_path: Path, compare: Compare) -> None:
    source = build(tmp_path, tiny("qwen2"), "hf:F32", stem="source")
    run = compare(source, f"trace:{dumped(tmp_path, source)}", "--tokens", "1,2,3")
    assert run.exit_code == 2
    assert "was dumped with other tokens" in run.stderr


DAMAGE: dict[str, Callable[[Path, Path], None]] = {
    "no JSON": lambda tree, _: tree.write_text(tree.read_text()[:-40]),
    "no path": lambda tree, _: tree.write_text('{"module_path": 3, "children": []}'),
    "children of another kind": lambda tree, _: tree.write_text(
        '{"module_path": "M", "children": [{"module_path": "M.a", "children": 4}]}'
    ),
    "deep": lambda tree, _: tree.write_text('{"module_path": "M", "children": [' * 100_000),
    "no tokens": lambda tree, _: tree.write_text('{"module_path": "M"}'),
    "file gone": lambda _, one: one.unlink(),
    "file cut": lambda _, one: one.write_bytes(one.read_bytes()[:-3]),
    "another file": lambda tree, one: shutil.copy(tree, one),
    "file outside": lambda tree, one: tree.write_text(
        tree.read_text().replace(f"./{one.name}", f"../{one.name}")
    ),
    "other dims": lambda tree, one: tree.write_text(
        tree.read_text().replace("torch.Size([1, 12, 64])", "torch.Size([1, 64, 12])")
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_tree_is_refused_in_a_sentence(tmp_path: Path, damage: str) -> None:
    source = build(tmp_path, tiny("qwen2"), "hf:F32", stem="source")
    folder = dumped(tmp_path, source)
    [tree] = folder.glob("*_FULL_TENSORS.json")
    DAMAGE[damage](tree, folder / "Qwen2ForCausalLM.model.layers.1.mlp.up_proj_outputs.safetensors")
    with pytest.raises(RosettaError) as raised:
        compared_files(source, f"trace:{folder}", tokens=None)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_summary_alone_holds_no_values(tmp_path: Path) -> None:
    source = build(tmp_path, tiny("qwen2"), "hf:F32", stem="source")
    folder = dumped(tmp_path, source)
    [tree] = folder.glob("*_FULL_TENSORS.json")
    tree.unlink()
    assert json.loads(next(folder.glob("*_SUMMARY.json")).read_text())["module_path"] == "Qwen2ForCausalLM"
    with pytest.raises(RosettaError, match="holds no run"):
        compared_files(source, f"trace:{folder}", tokens=None)
