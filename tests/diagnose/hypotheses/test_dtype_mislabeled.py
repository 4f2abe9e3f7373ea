"""Bytes of one dtype declared as another of the same size: F16 and BF16 first of all, quantised ones too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import ModelSpec, faults
from fixtures.comparing import compared, faulty, tiny
from fixtures.faults import Fault

LLAMA, MISTRAL, QWEN2, QWEN3, GPT2 = (
    tiny(name, tied=False) for name in ("llama", "mistral", "qwen2", "qwen3", "gpt2")
)
WIDE = tiny("qwen2", hidden=256, ffn=512, heads=4, head_dim=64, layers=1, tied=False)

Case = tuple[ModelSpec, str, str, str, str, str]
CASES: list[Case] = [
    # model, broken operand (what it stores), the other, declared, tensor, stage
    (LLAMA, "apr:BF16", "gguf:F16", "F16", "blk.0.attn_q.weight", "layers.0.q"),
    (LLAMA, "hf:F16", "gguf:Q8_0", "BF16", "blk.1.attn_k.weight", "layers.1.k"),
    (LLAMA, "gguf:F16", "hf:F32", "BF16", "output.weight", "logits"),
    (LLAMA, "apr-gguf:BF16", "apr:F16", "F16", "blk.0.ffn_down.weight", "layers.0.ffn_out"),
    (MISTRAL, "hf-sharded:BF16", "gguf:F16", "F16", "blk.0.attn_v.weight", "layers.0.v"),
    (QWEN2, "gguf:BF16", "apr:BF16", "F16", "token_embd.weight", "embedding"),
    (QWEN2, "apr:F16", "hf:BF16", "BF16", "blk.1.ffn_up.weight", "layers.1.ffn_up"),
    (QWEN3, "hf:BF16", "apr:F16", "F16", "blk.0.attn_q_norm.weight", "layers.0.q"),
    (QWEN3, "hf:F16", "gguf:F16", "BF16", "output_norm.weight", "final_norm"),
    (GPT2, "hf:BF16", "gguf:F16", "F16", "blk.0.ffn_up.weight", "layers.0.ffn_up"),
    (GPT2, "apr:BF16", "hf:F32", "F16", "position_embd.weight", "embedding"),
    (GPT2, "hf:F16", "hf:F32", "BF16", "blk.1.attn_output.bias", "layers.1.attn_out"),
    (WIDE, "gguf:IQ4_NL", "hf:F16", "Q4_0", "blk.0.ffn_up.weight", "layers.0.ffn_up"),
    (WIDE, "gguf:Q4_0", "hf:F16", "IQ4_NL", "blk.0.ffn_down.weight", "layers.0.ffn_out"),
]


def labelled(name: str, dtype: str) -> Fault:
    """The bytes stay, the file calls them another dtype of the same size."""
    return lambda file: file.with_tensor(name, dtype=dtype)


def case_name(case: Case) -> str:
    spec, left, right, declared, tensor, _ = case
    return f"{spec.architecture} {left} as {declared} {right} {tensor}"


@pytest.mark.sample(11)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES, ids=map(case_name, CASES))
def test_mislabeled_bytes_are_named_with_their_dtype(tmp_path: Path, case: Case, side: Any) -> None:
    spec, broken, other, declared, tensor, stage = case
    stored = broken.partition(":")[2]
    operands = (broken, other) if side == "left" else (other, broken)
    reference = "right" if side == "left" else "left"
    report = compared(tmp_path, spec, *operands, labelled(tensor, declared), side, reference=reference)
    assert report.verdict == "divergent"
    assert report.first_divergence is not None
    assert report.first_divergence.name == stage
    assert [(f.kind, f.tensor, f.side, f.status, f.alternatives) for f in report.findings] == [
        ("dtype.mislabeled", tensor, side, "confirmed", [])
    ]
    (found,) = report.findings
    assert (found.declared, found.actual) == (declared, stored)
    assert found.message == f"{tensor} is declared {declared}, and its bytes are {stored}"
    assert found.evidence is not None
    assert found.evidence.after is not None
    assert found.evidence.predicted is not None
    assert found.evidence.after <= found.evidence.predicted


def test_tied_embedding_is_one_finding(tmp_path: Path) -> None:
    fault = faults.bf16_as_f16("token_embd.weight")
    report = compared(tmp_path, tiny("qwen2", layers=1), "gguf:F16", "hf:F16", fault)
    assert [(found.kind, found.tensor) for found in report.findings] == [
        ("dtype.mislabeled", "token_embd.weight")
    ]


def test_every_mislabeled_tensor_has_a_finding_of_its_own(tmp_path: Path) -> None:
    """A whole file written as BF16 and labelled F16, as an importer does it."""
    spec = tiny("llama", layers=1, tied=False)
    names = [
        f"blk.0.{name}.weight" for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up")
    ]
    report = compared(tmp_path, spec, "apr:F16", "gguf:F16", [faults.bf16_as_f16(name) for name in names])
    assert [(found.tensor, found.kind, found.actual) for found in report.findings] == [
        (name, "dtype.mislabeled", "BF16") for name in names
    ]
    assert faulty(report) == [f"layers.0.{op}" for op in ("q", "k", "v", "attn_out", "ffn_gate", "ffn_up")]


@pytest.mark.parametrize(
    "fault", [faults.scaled("blk.0.ffn_up.weight", 1.5), faults.zeroed("blk.0.ffn_up.weight")]
)
def test_what_no_dtype_repairs_is_not_called_mislabeled(tmp_path: Path, fault: Any) -> None:
    report = compared(tmp_path, LLAMA, "apr:F16", "gguf:F16", fault)
    assert [found.kind for found in report.findings if found.kind == "dtype.mislabeled"] == []
