"""Two right conversions of one model are never called wrong, whatever containers and dtypes they are in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import Llama3Scaling, ModelSpec, faults, model_spec, pair

pytestmark = pytest.mark.sweep

LLAMA, QWEN2, GPT2 = model_spec("llama"), model_spec("qwen2"), model_spec("gpt2")
LLAMA31 = model_spec("llama", rope_scaling=Llama3Scaling())
MISTRAL, QWEN3 = model_spec("mistral"), model_spec("qwen3")

# every two containers, in each architecture
CONTAINERS = [
    (LLAMA, "apr:F16", "gguf:F16"),
    (LLAMA, "apr-gguf:F16", "gguf:F16"),
    (LLAMA, "apr-gguf:F16", "apr:F16"),
    (LLAMA, "hf:F32", "gguf:F32"),
    (LLAMA, "hf-sharded:BF16", "apr:BF16"),
    (LLAMA31, "apr:BF16", "gguf:BF16"),
    (LLAMA31, "apr-gguf:F32", "hf:F32"),
    (LLAMA31, "hf:BF16", "gguf:Q8_0"),
    (LLAMA31, "hf-before-5:F16", "apr-gguf:F16"),
    (MISTRAL, "apr:F16", "gguf:Q8_0"),
    (MISTRAL, "hf:F16", "gguf:F16"),
    (MISTRAL, "apr-gguf:BF16", "hf:BF16"),
    (QWEN2, "apr:F16", "gguf:F16"),
    (QWEN2, "hf-sharded:F16", "gguf:Q4_K_M"),
    (QWEN2, "apr-gguf:Q4_K_M", "gguf:Q4_K_M"),
    (QWEN3, "apr:F16", "gguf:F16"),
    (QWEN3, "hf:BF16", "apr:F16"),
    (QWEN3, "apr-gguf:F32", "gguf:Q6_K"),
    (GPT2, "apr:F16", "gguf:F16"),
    (GPT2, "hf:F32", "apr:F32"),
    (GPT2, "apr-gguf:BF16", "hf:BF16"),
    (GPT2, "hf-sharded:F32", "gguf:Q8_0"),
]
# every dtype, against the source it was made from
DTYPES = [
    (QWEN2, "hf:F32", f"gguf:{dtype}")
    for dtype in (
        "F16",
        "BF16",
        "Q8_0",
        "Q4_0",
        "Q4_1",
        "Q5_0",
        "Q5_1",
        "Q2_K",
        "Q3_K",
        "Q4_K",
        "Q5_K",
        "Q6_K",
    )
] + [
    (LLAMA, "apr:F16", "gguf:IQ4_NL"),
    (LLAMA, "apr:F16", "gguf:IQ4_XS"),
    (LLAMA, "apr:Q4_K", "gguf:Q8_0"),
    (LLAMA, "apr:Q8_0", "gguf:F16"),
]
# options of an architecture
OPTIONS = [
    (model_spec("llama", tied=True), "apr:F16", "gguf:F16"),
    (model_spec("llama", tied=True), "hf:F16", "apr-gguf:F16"),
    (model_spec("qwen2", tied=False), "apr:F16", "gguf:Q4_K_M"),
    (model_spec("llama", vocab=391), "apr:F16", "gguf:F16"),
    (model_spec("llama", heads=8, kv_heads=8), "apr:F16", "gguf:F16"),
    (model_spec("gpt2", tied=False, ffn=512), "apr:F16", "gguf:F16"),
    (model_spec("llama", hidden=320), "apr:F16", "gguf:Q4_K_M"),
]
PAIRS = CONTAINERS + DTYPES + OPTIONS


def name(case: tuple[ModelSpec, str, str]) -> str:
    spec, left, right = case
    plain = vars(model_spec(spec.architecture))
    changed = [
        "3.1" if field == "rope_scaling" else f"{field}={value}"
        for field, value in vars(spec).items()
        if value != plain[field]
    ]
    return " ".join([spec.architecture, *changed, left, right])


@pytest.mark.parametrize(("spec", "left", "right"), PAIRS, ids=map(name, PAIRS))
def test_clean_pair_raises_no_alarm(
    tmp_path: Path, compare: Any, spec: ModelSpec, left: str, right: str
) -> None:
    run = compare(*pair(tmp_path, spec, left, right), "--assert-match")
    report = run.report
    assert run.exit_code == 0, run.stdout + run.stderr
    assert report["verdict"] in ("match", "drift"), report["reason"]
    assert report["findings"] == []
    assert [stage["name"] for stage in report["stages"] if stage["status"] in ("faulty", "carried")] == []
    assert report["weights"]["differing_tensors"] == []
    assert report["weights"]["missing_left"] == report["weights"]["missing_right"] == []
    assert [entry["key"] for entry in report["config"] if entry["status"] == "differs"] == []
    assert report["tokens"]["match"]
    assert report["compared"]["weights"] >= 9 * spec.layers, "weights were left out of the comparison"
    assert report["compared"]["stages"] >= 14 * spec.layers, "stages were left out of the comparison"


@pytest.mark.parametrize("spec", [LLAMA, QWEN3, GPT2], ids=lambda spec: spec.architecture)
@pytest.mark.parametrize(("left", "right"), [("apr:F32", "gguf:F32"), ("hf:F32", "apr-gguf:F32")])
def test_equal_weights_differ_by_exactly_zero(
    tmp_path: Path, compare: Any, spec: ModelSpec, left: str, right: str
) -> None:
    report = compare(*pair(tmp_path, spec, left, right)).report
    assert report["verdict"] == "match"
    assert {stage["max_diff"] for stage in report["stages"] if stage["status"] != "skipped"} <= {0.0, None}
    assert report["logits"]["argmax_match"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rope_factors_that_another_converter_rounded_the_other_way_are_no_fault(
    tmp_path: Path, compare: Any, dtype: str
) -> None:
    """llama.cpp's converter computes them in float32: its last bit is not that of the config's parameters."""
    next_float = faults.scaled("rope_freqs.weight", 1 + 2**-23)
    report = compare(
        *pair(tmp_path, LLAMA31, "hf:F32", "gguf:F32", next_float, "right"), "--dtype", dtype
    ).report
    assert (report["verdict"], report["findings"]) == ("match", [])
    (rotated,) = [stage for stage in report["stages"] if stage["name"] == "layers.0.q_rope"]
    assert rotated["max_diff"] > 0, "the factors did not differ"


def test_models_of_different_seeds_are_no_clean_pair(tmp_path: Path, compare: Any) -> None:
    left, _ = pair(tmp_path / "a", QWEN2, "apr:F16", "gguf:F16")
    _, right = pair(tmp_path / "b", model_spec("qwen2", seed=1), "apr:F16", "gguf:F16")
    run = compare(left, right, "--assert-match", "--no-diagnose")
    assert (run.exit_code, run.report["verdict"]) == (1, "divergent")
    assert run.report["first_divergence"]["name"] == "embedding"
