"""Rotary rows in the other order are a recording's choice, told from itself; what is really wrong is still found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fixtures import build, faults
from fixtures.causes import Cause, assert_causes, assert_clean, assert_proven
from fixtures.comparing import TOKENS, compared_files, faulty, tiny
from fixtures.recording import recorded
from fixtures.stages import transformers_stages

NOTE = "rotary order"
LATER = ("q_rope", "k_rope", "attn_scores", "attn_context")


def of_transformers(
    folder: Path, without: Iterable[str] = (), spec: Any = None, facts: Mapping[str, Any] | None = None
) -> Path:
    """A run of transformers, its queries and keys in split halves as it has them, some stages left out."""
    pytest.importorskip("transformers")
    stages = transformers_stages(build(folder, spec or tiny("llama"), "hf:F32", stem="source"), TOKENS)
    gone = set(without)
    path = folder / "run.safetensors"
    kept = {name: x.contiguous() for name, x in stages.items() if name.rpartition(".")[2] not in gone}
    save_file(kept, path, metadata={"rosetta": json.dumps({"tokens": list(TOKENS), **(facts or {})})})
    return path


@pytest.mark.requires_transformers
@pytest.mark.parametrize("count", range(len(LATER) + 1))
def test_llama_of_transformers_is_no_fault_whatever_was_recorded_of_its_attention(
    tmp_path: Path, count: int
) -> None:
    trace = of_transformers(tmp_path, without=LATER[:count])
    report = compared_files(build(tmp_path, tiny("llama"), "gguf:F32"), f"trace:{trace}", tokens=None)
    assert_clean(report)
    assert report.verdict == "match"
    assert any(NOTE in note for note in report.notes)
    assert {s.op for s in report.stages if s.status == "skipped"} == set(LATER[:count])


@pytest.mark.requires_transformers
@pytest.mark.parametrize("spec", ["qwen2", "qwen3"])
def test_rows_in_our_own_order_are_left_alone(tmp_path: Path, spec: str) -> None:
    trace = of_transformers(tmp_path, spec=tiny(spec))
    report = compared_files(build(tmp_path, tiny(spec), "gguf:F32"), f"trace:{trace}", tokens=None)
    assert_clean(report)
    assert not any(NOTE in note for note in report.notes)


@pytest.mark.requires_transformers
@pytest.mark.parametrize("without", [(), ("q_rope", "k_rope"), ("q_rope", "k_rope", "attn_scores")])
def test_what_is_really_wrong_does_not_drown(tmp_path: Path, without: tuple[str, ...]) -> None:
    trace = of_transformers(tmp_path, without=without)
    broken = build(tmp_path, tiny("llama"), "gguf:F32", faults.scaled("blk.1.ffn_up.weight", 2.0))
    report = compared_files(broken, f"trace:{trace}", tokens=None)
    assert_proven(report, "layers.1.ffn_up", Cause("value.scaled", "blk.1.ffn_up.weight", actual=2.0))


@pytest.mark.requires_transformers
def test_one_tensor_of_the_file_in_the_other_order_is_a_fault(tmp_path: Path) -> None:
    trace = of_transformers(tmp_path)
    broken = build(tmp_path, tiny("llama"), "gguf:F32", faults.rope_order_changed("blk.1.attn_q.weight"))
    report = compared_files(broken, f"trace:{trace}", tokens=None)
    assert_proven(report, "layers.1.q", Cause("layout.rope_order", "blk.1.attn_q.weight"))


@pytest.mark.parametrize("without", [[], ["rope_order"]])
def test_all_rows_of_the_file_in_the_other_order_are_a_fault_of_the_file(
    tmp_path: Path, without: list[str]
) -> None:
    """A recording tells its own order: it is not taken for the file's."""
    spec = tiny("llama")
    trace = recorded(
        tmp_path / "run.safetensors", build(tmp_path, spec, "gguf:F32", stem="run"), without=without
    )
    every = [faults.rope_order_changed(f"blk.{n}.attn_{x}.weight") for n in range(2) for x in "qk"]
    report = compared_files(build(tmp_path, spec, "gguf:F32", every), f"trace:{trace}", tokens=None)
    assert report.verdict == "divergent"
    assert_causes(
        report,
        *(Cause("layout.rope_order", f"blk.{n}.attn_{x}.weight") for n in range(2) for x in "qk"),
    )


@pytest.mark.requires_transformers
@pytest.mark.parametrize(("stated", "verdict"), [("split_half", "match"), ("interleaved", "divergent")])
def test_order_that_a_recording_states_is_taken_at_its_word(
    tmp_path: Path, stated: str, verdict: str
) -> None:
    trace = of_transformers(tmp_path, facts={"rope_order": stated})
    report = compared_files(build(tmp_path, tiny("llama"), "gguf:F32"), f"trace:{trace}", tokens=None)
    assert report.verdict == verdict
    assert any(NOTE in note for note in report.notes) == (verdict == "match")


@pytest.mark.requires_transformers
def test_heads_side_by_side_are_turned_too(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    trace = of_transformers(tmp_path)
    flat = {
        name: x.flatten(1) if name.rpartition(".")[2] in ("q", "k", "v", "q_rope", "k_rope") else x
        for name, x in load_file(trace).items()
    }
    save_file(flat, trace, metadata={"rosetta": json.dumps({"tokens": list(TOKENS)})})
    report = compared_files(build(tmp_path, tiny("llama"), "gguf:F32"), f"trace:{trace}", tokens=None)
    assert_clean(report)
    assert report.compared.stages > 30


def test_one_token_tells_no_order(tmp_path: Path) -> None:
    """It is turned by nothing: the model's own rows tell."""
    spec = tiny("llama")
    model = build(tmp_path, spec, "gguf:F32")

    def halved(stages: Any) -> Any:
        for name, x in stages:
            turned = name.rpartition(".")[2] in ("q", "k", "q_rope", "k_rope")
            yield name, x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2) if turned else x

    trace = recorded(
        tmp_path / "run.safetensors", model, tokens=TOKENS[:1], without=["rope_order"], edit=halved
    )
    report = compared_files(model, f"trace:{trace}", tokens=None)
    assert_clean(report)
    assert faulty(report) == []
    assert torch.isfinite(torch.tensor([s.max_diff or 0.0 for s in report.stages])).all()
