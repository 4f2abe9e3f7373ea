"""A matrix stored the other way round is named, and told from one whose dims alone are swapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import ModelSpec, faults
from fixtures.comparing import compared, faulty, tiny
from fixtures.dtypes import encode
from fixtures.faults import Fault
from rosetta.report.report import Report

TURNED, SWAPPED = "layout.transposed", "layout.dims_swapped"
LLAMA, MISTRAL, QWEN2, QWEN3, GPT2 = (
    tiny(name, tied=False) for name in ("llama", "mistral", "qwen2", "qwen3", "gpt2")
)
WIDE = tiny("llama", hidden=256, ffn=512, heads=4, head_dim=64, layers=1)  # superblocks divide its rows

Case = tuple[ModelSpec, str, str, str, str]
MATRICES: list[Case] = [
    # model, broken operand (`F32>Q8_0`: the tensor is quantised after it was broken), the other, tensor, stage
    (LLAMA, "apr:F16", "gguf:F16", "blk.0.attn_k.weight", "k"),  # its rows are reordered as well
    (LLAMA, "apr-gguf:F16", "hf:BF16", "blk.1.attn_k.weight", "k"),
    (LLAMA, "gguf:F32>Q8_0", "hf:F16", "blk.0.ffn_down.weight", "ffn_out"),
    (MISTRAL, "hf:F16", "gguf:F16", "blk.1.attn_v.weight", "v"),
    (MISTRAL, "hf-sharded:BF16", "apr:F16", "blk.0.ffn_gate.weight", "ffn_gate"),
    (QWEN2, "gguf:F16", "apr:F16", "blk.1.attn_k.weight", "k"),
    (QWEN2, "apr:F32>Q8_0", "gguf:F16", "blk.0.ffn_up.weight", "ffn_up"),
    (QWEN3, "apr:F16", "gguf:Q8_0", "blk.0.attn_q.weight", "q"),  # through the norm over heads
    (QWEN3, "hf:F32", "gguf:F32", "blk.1.attn_output.weight", "attn_out"),
    (GPT2, "apr:F16", "gguf:F16", "blk.0.ffn_up.weight", "ffn_up"),
    (GPT2, "gguf:F16", "hf:F16", "blk.1.ffn_down.weight", "ffn_out"),
    (GPT2, "hf:F16", "apr:F16", "blk.1.ffn_up.weight", "ffn_up"),  # Conv1D: [in, out] is right there
    (LLAMA, "apr:F16", "gguf:F16", "output.weight", "logits"),
    (LLAMA, "gguf:F16", "hf:F16", "token_embd.weight", "embedding"),
    (GPT2, "apr:F16", "gguf:F16", "position_embd.weight", "embedding"),
    (WIDE, "gguf:F32>Q4_K", "hf:F16", "blk.0.ffn_up.weight", "ffn_up"),
    (WIDE, "gguf:F32>Q6_K", "gguf:Q8_0", "blk.0.ffn_down.weight", "ffn_out"),
]


def case_name(case: Case) -> str:
    spec, left, right, tensor, _ = case
    return f"{spec.architecture} {left} {right} {tensor}"


def broken_report(folder: Path, case: Case, kind: str, side: Any, **options: Any) -> Report:
    """The report of a case with its fault planted on a side."""
    spec, broken, other, tensor, _ = case
    operand, _, dtype = broken.partition(">")
    quantised = [stored_as(tensor, dtype)] if dtype else []
    turned, swapped = [faults.transposed(tensor), *quantised], [*quantised, faults.dims_swapped(tensor)]
    operands = (operand, other) if side == "left" else (other, operand)
    return compared(folder, spec, *operands, turned if kind == TURNED else swapped, side, **options)


def stored_as(name: str, dtype: str) -> Fault:
    """No fault in itself: one tensor in another dtype, from values that were not quantised before."""
    return lambda file: file.with_tensor(name, dtype=dtype, data=encode(file.values(name), dtype))


def assert_only(report: Report, kind: str, tensor: str, stage: str, side: str) -> None:
    """One confirmed finding, at the first faulty stage, and nothing else accused."""
    assert report.verdict == "divergent"
    assert report.first_divergence is not None
    assert report.first_divergence.name == stage
    assert [(f.kind, f.tensor, f.side, f.status, f.latent, f.alternatives) for f in report.findings] == [
        (kind, tensor, side, "confirmed", False, [])
    ]
    (found,) = report.findings
    assert found.evidence is not None
    assert found.evidence.stage == stage
    assert found.evidence.predicted is not None
    assert found.evidence.after is not None
    assert found.evidence.after <= found.evidence.predicted
    assert found.key is None


@pytest.mark.sample(23)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", [TURNED, SWAPPED])
@pytest.mark.parametrize("case", MATRICES, ids=map(case_name, MATRICES))
def test_matrix_that_is_not_square_betrays_itself_on_either_side(
    tmp_path: Path, case: Case, kind: str, side: Any
) -> None:
    """Its dims contradict its own config: it is accused whichever side is believed (here always the right)."""
    *_, tensor, op = case
    report = broken_report(tmp_path, case, kind, side)
    stage = op if not tensor.startswith("blk.") else f"layers.{tensor.split('.')[1]}.{op}"
    assert_only(report, kind, tensor, stage, side)
    (found,) = report.findings
    assert found.evidence is not None
    assert found.evidence.before is None, "as stored it cannot be computed"
    stored = report.weights.differing_tensors[0]
    dims = stored.left_dims if side == "left" else stored.right_dims
    assert found.declared == dims
    assert "needs transpose" in found.message
    assert faulty(report) == [stage]


SQUARE: list[Case] = [
    (LLAMA, "apr:F16", "gguf:F16", "blk.0.attn_q.weight", "q"),
    (LLAMA, "hf:F16", "gguf:Q8_0", "blk.1.attn_q.weight", "q"),
    (MISTRAL, "gguf:F16", "apr-gguf:F16", "blk.0.attn_q.weight", "q"),
    (QWEN2, "apr:F16", "gguf:F16", "blk.1.attn_output.weight", "attn_out"),
    (QWEN2, "gguf:F32>Q8_0", "hf:F16", "blk.0.attn_q.weight", "q"),
    (GPT2, "hf:F16", "gguf:F16", "blk.0.attn_output.weight", "attn_out"),
    (GPT2, "apr:F16", "hf:F16", "blk.1.attn_output.weight", "attn_out"),
    (WIDE, "gguf:F32>Q4_K", "hf:F16", "blk.0.attn_output.weight", "attn_out"),
    (WIDE, "gguf:F32>Q5_K", "apr:BF16", "blk.0.attn_q.weight", "q"),
]


@pytest.mark.sample(12)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", SQUARE, ids=map(case_name, SQUARE))
def test_square_matrix_is_judged_by_its_values(tmp_path: Path, case: Case, side: Any) -> None:
    """No dims betray it: the side that is not believed is accused."""
    *_, tensor, op = case
    reference = "right" if side == "left" else "left"
    report = broken_report(tmp_path, case, TURNED, side, reference=reference)
    assert_only(report, TURNED, tensor, f"layers.{tensor.split('.')[1]}.{op}", side)
    (found,) = report.findings
    assert found.evidence is not None
    assert found.evidence.before is not None
    assert found.evidence.after is not None
    assert found.evidence.before > 10 * found.evidence.after


def test_turned_values_under_right_dims_are_told_from_swapped_dims(tmp_path: Path) -> None:
    fault = faults.transposed("blk.1.ffn_up.weight", "as_expected")
    report = compared(tmp_path, LLAMA, "gguf:F16", "hf:F16", fault)
    assert_only(report, TURNED, "blk.1.ffn_up.weight", "layers.1.ffn_up", "left")


@pytest.mark.parametrize("operand", ["apr:F16", "apr-gguf:F16", "gguf:F16"])
@pytest.mark.parametrize("fault", [faults.transposed, faults.dims_swapped])
def test_tied_embedding_is_one_finding(tmp_path: Path, operand: str, fault: Any) -> None:
    """The head is the same tensor: repaired with it, accused of nothing."""
    spec = tiny("qwen2", layers=1)
    report = compared(tmp_path, spec, operand, "hf:F16", fault("token_embd.weight"))
    assert [found.tensor for found in report.findings] == ["token_embd.weight"]
    assert report.findings[0].status == "confirmed"
    assert report.first_divergence is not None
    assert report.first_divergence.name == "embedding"


def test_several_turned_matrices_are_all_found_in_order_of_depth(tmp_path: Path) -> None:
    names = ["blk.0.attn_k.weight", "blk.0.ffn_up.weight", "blk.1.attn_v.weight"]
    faults_of = [faults.transposed(names[0]), faults.dims_swapped(names[1]), faults.transposed(names[2])]
    report = compared(tmp_path, LLAMA, "apr:F16", "gguf:F16", faults_of)
    assert [(found.tensor, found.kind) for found in report.findings] == list(
        zip(names, [TURNED, SWAPPED, TURNED], strict=True)
    )


@pytest.mark.parametrize(
    "fault", [faults.scaled("blk.0.attn_output.weight", 2.0), faults.zeroed("blk.0.attn_output.weight", 3, 9)]
)
def test_what_no_transpose_repairs_is_not_called_one(tmp_path: Path, fault: Fault) -> None:
    report = compared(tmp_path, QWEN2, "apr:F16", "gguf:F16", fault)
    assert report.findings != []
    assert {found.kind for found in report.findings} & {TURNED, SWAPPED} == set()


def test_dims_that_are_no_permutation_are_not_called_transposed(tmp_path: Path) -> None:
    """16 × 192 has as many weights as 32 × 96, and is no order of them."""
    report = compared(tmp_path, LLAMA, "apr:F16", "gguf:F16", reshaped("blk.0.ffn_up.weight", (192, 32)))
    assert faulty(report) == ["layers.0.ffn_up"]
    assert {found.kind for found in report.findings} & {TURNED, SWAPPED} == set()


def reshaped(name: str, dims: tuple[int, ...]) -> Fault:
    return lambda file: file.with_tensor(name, dims=dims)
