"""A tensor under a name that nothing reads is found by its values: nothing of it is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny
from fixtures.contents import FileContents
from fixtures.faults import Fault
from rosetta.architectures import find_architecture
from rosetta.architectures.parts.module_names import folder_name

KIND = "value.missing"


def renamed(old: str, new: str) -> Fault:
    def fault(file: FileContents) -> FileContents:
        tensors = {
            key: replace(tensor, name=tensor.name.replace(old, new)) for key, tensor in file.tensors.items()
        }
        assert tensors != file.tensors
        return replace(file, tensors=tensors)

    return fault


@pytest.mark.parametrize(
    ("architecture", "operands", "old", "new", "tensor", "stage", "right"),
    [
        ("llama", ("hf:F16", "gguf:F16"), "1.self_attn.q_proj", "1.self_attn.query", "blk.1.attn_q.weight",
         "layers.1.q", "model.layers.1.self_attn.q_proj.weight"),
        ("qwen2", ("gguf:Q8_0", "hf:BF16"), "blk.0.ffn_down", "blk.0.mlp_down", "blk.0.ffn_down.weight",
         "layers.0.ffn_out", "blk.0.ffn_down.weight"),
        ("gpt2", ("hf:F32", "apr:F16"), "wte", "words", "token_embd.weight", "embedding", "transformer.wte.weight"),
    ],
)  # fmt: skip
def test_what_lies_under_another_name_is_not_missing(
    tmp_path: Path, architecture: str, operands: Any, old: str, new: str, tensor: str, stage: str, right: str
) -> None:
    report = compared(tmp_path, tiny(architecture), *operands, renamed(old, new))
    assert_proven(report, stage, Cause(KIND, tensor, "left"))
    (found,) = report.findings
    assert found.evidence is not None
    assert found.evidence.from_reference is None
    assert new in found.message
    assert f" {right} in " in found.recommendation


def test_a_layer_under_other_names_is_no_smaller_number_of_layers(tmp_path: Path) -> None:
    report = compared(tmp_path, tiny("llama"), "hf:F16", "gguf:F16", renamed("layers.1.", "layers.1.inner."))
    assert {(found.kind, found.status) for found in report.findings} == {(KIND, "confirmed")}


def test_a_missing_embedding_that_is_the_head_too_is_one_finding(tmp_path: Path) -> None:
    dropped = faults.dropped("token_embd.weight")
    report = compared(tmp_path, tiny("llama", tied=True), "hf:F16", "gguf:F16", dropped)
    assert_proven(report, "embedding", Cause(KIND, "token_embd.weight", "left"))


@pytest.mark.parametrize(
    ("architecture", "canonical", "own"),
    [
        ("llama", "blk.1.ffn_norm.weight", "model.layers.1.post_attention_layernorm.weight"),
        ("gpt2", "blk.0.attn_q.bias", "transformer.h.0.attn.c_attn.bias"),
        ("mamba", "blk.1.ssm_a", "backbone.layers.1.mixer.A_log"),
        ("qwen3moe", "blk.1.ffn_gate_exps.3.weight", "model.layers.1.mlp.experts.3.gate_proj.weight"),
        ("llama", "blk.1.attn_rot_embd.weight", None),
    ],
)
def test_what_a_folder_calls_a_weight(architecture: str, canonical: str, own: str | None) -> None:
    known = find_architecture(architecture)
    assert known is not None
    assert folder_name(known, canonical) == own
