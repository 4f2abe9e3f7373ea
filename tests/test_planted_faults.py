"""A planted transpose, dtype or epsilon fault is located at its stage, named, and confirmed by its repair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import Llama3Scaling, ModelSpec, faults, model_spec, pair
from fixtures.faults import Fault

LLAMA, QWEN2, QWEN3, GPT2 = (model_spec(name) for name in ("llama", "qwen2", "qwen3", "gpt2"))
LLAMA31 = model_spec("llama", rope_scaling=Llama3Scaling())
MISTRAL = model_spec("mistral", layers=3)

Case = tuple[ModelSpec, str, str, Fault, str, str, str]
LAYOUT: list[Case] = [
    # model, left (broken), right, fault, stage, kind, tensor
    *(
        (QWEN2, "apr:F16", "gguf:F16", fault(f"blk.0.{weight}.weight"), f"layers.0.{stage}", kind, weight)
        for fault, kind in (
            (faults.transposed, "layout.transposed"),
            (faults.dims_swapped, "layout.dims_swapped"),
        )
        for weight, stage in (("attn_k", "k"), ("ffn_gate", "ffn_gate"), ("ffn_down", "ffn_out"))
    ),
    (
        LLAMA31, "apr:F16", "gguf:Q8_0", faults.transposed("blk.1.attn_q.weight", "as_expected"),
        "layers.1.q", "layout.transposed", "attn_q",
    ),
    (
        MISTRAL, "apr-gguf:BF16", "hf:BF16", faults.transposed("blk.2.attn_output.weight"),
        "layers.2.attn_out", "layout.transposed", "attn_output",
    ),
    (
        GPT2, "apr:F16", "gguf:F16", faults.transposed("blk.0.ffn_up.weight"),
        "layers.0.ffn_up", "layout.transposed", "ffn_up",
    ),
]  # fmt: skip
DTYPE: list[Case] = [
    (
        LLAMA, "apr:F16", "gguf:F16", faults.bf16_as_f16("blk.1.ffn_up.weight"),
        "layers.1.ffn_up", "dtype.mislabeled", "ffn_up",
    ),
    (
        QWEN3, "apr:BF16", "hf:BF16", faults.f16_as_bf16("blk.0.attn_v.weight"),
        "layers.0.v", "dtype.mislabeled", "attn_v",
    ),
    (
        GPT2, "apr:F16", "gguf:F32", faults.bf16_as_f16("blk.0.ffn_down.weight"),
        "layers.0.ffn_out", "dtype.mislabeled", "ffn_down",
    ),
]  # fmt: skip


def name(case: Case) -> str:
    spec, left, right, _, stage, kind, _ = case
    return f"{spec.architecture} {left} {right} {kind} {stage}"


@pytest.mark.parametrize("case", LAYOUT + DTYPE, ids=name)
def test_weight_fault_is_located_and_confirmed(tmp_path: Path, compare: Any, case: Case) -> None:
    spec, left, right, fault, stage, kind, weight = case
    run = compare(*pair(tmp_path, spec, left, right, fault), "--assert-match")
    assert (run.exit_code, run.report["verdict"]) == (1, "divergent"), run.stdout + run.stderr
    assert run.report["first_divergence"]["name"] == stage
    (finding,) = run.report["findings"]
    layer = int(stage.split(".")[1])
    assert (finding["kind"], finding["tensor"]) == (kind, f"blk.{layer}.{weight}.weight")
    assert (finding["side"], finding["layer"], finding["status"]) == ("left", layer, "confirmed")
    before, after = finding["evidence"]["before"], finding["evidence"]["after"]
    assert before is None or after < before / 10, "the repair hardly helps, and yet it is called a proof"
    assert after <= finding["evidence"]["predicted"] * 10


@pytest.mark.parametrize(
    ("spec", "left", "right"),
    [
        (LLAMA, "apr:F16", "gguf:F16"),
        (QWEN2, "apr-gguf:F16", "gguf:Q8_0"),
        (QWEN3, "hf:BF16", "apr:F16"),
        (MISTRAL, "gguf:F16", "hf:F16"),
        (GPT2, "apr:F16", "gguf:F16"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.architecture,
)
def test_wrong_epsilon_is_located_and_confirmed(
    tmp_path: Path, compare: Any, spec: ModelSpec, left: str, right: str
) -> None:
    run = compare(*pair(tmp_path, spec, left, right, faults.norm_epsilon(1e-3)), "--assert-match")
    assert run.exit_code == 1, run.stdout + run.stderr
    assert run.report["first_divergence"]["name"] == "layers.0.attn_norm"
    (finding,) = run.report["findings"]
    assert (finding["kind"], finding["side"], finding["status"]) == (
        "config.norm_epsilon",
        "left",
        "confirmed",
    )
    assert finding["declared"] == pytest.approx(1e-3)
    assert finding["actual"] == pytest.approx(spec.epsilon)


def test_the_reference_decides_which_side_is_accused(tmp_path: Path, compare: Any) -> None:
    broken = faults.transposed("blk.0.attn_k.weight")
    paths = pair(tmp_path, QWEN2, "gguf:F16", "apr:F16", broken, side="right")
    (finding,) = compare(*paths, "--reference", "left").report["findings"]
    assert (finding["side"], finding["kind"]) == ("right", "layout.transposed")


@pytest.mark.parametrize(
    "fault", [faults.zeroed("blk.1.ffn_up.weight", 3, 9), faults.scaled("blk.1.ffn_up.weight", -1)]
)
def test_fault_without_a_hypothesis_is_located_all_the_same(
    tmp_path: Path, compare: Any, fault: Fault
) -> None:
    run = compare(*pair(tmp_path, LLAMA, "apr:F16", "gguf:F16", fault), "--assert-match")
    assert (run.exit_code, run.report["verdict"]) == (1, "divergent")
    assert run.report["first_divergence"]["name"] == "layers.1.ffn_up"
    (finding,) = run.report["findings"]
    assert (finding["side"], finding["layer"]) == ("left", 1)


def test_one_wrong_block_of_32_weights_is_told_from_quantisation(tmp_path: Path, compare: Any) -> None:
    fault = faults.block_scaled("blk.1.ffn_up.weight", 1.5, block=100)
    run = compare(*pair(tmp_path, QWEN2, "gguf:Q8_0", "hf:F32", fault), "--assert-match")
    assert "layers.1.ffn_up" in {s["name"] for s in run.report["stages"] if s["status"] == "faulty"}
    assert [w["name"] for w in run.report["weights"]["differing_tensors"]] == ["blk.1.ffn_up.weight"]
