"""Rows of q and k in the other rotary order: of one tensor, of all, and a rope type that says so wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny

ORDER, TYPE, KEY = "layout.rope_order", "config.rope_type", "rope.type"
INTERLEAVED, SPLIT_HALF = 0, 2
NAMES = {INTERLEAVED: "interleaved", SPLIT_HALF: "split-half"}
CASES = [
    # architecture, broken operand, the other, tensor, order that the file should have
    ("llama", "gguf:F16", "hf:F16", "blk.0.attn_q.weight", INTERLEAVED),
    ("llama", "apr:F16", "gguf:F16", "blk.1.attn_k.weight", SPLIT_HALF),
    ("llama", "gguf:Q8_0", "apr:F16", "blk.1.attn_q.weight", INTERLEAVED),
    ("mistral", "hf:BF16", "gguf:F16", "blk.0.attn_k.weight", SPLIT_HALF),
    ("mistral", "apr-gguf:F16", "gguf:F16", "blk.1.attn_q.weight", INTERLEAVED),
    ("qwen2", "gguf:F16", "hf:F16", "blk.0.attn_k.weight", SPLIT_HALF),
    ("qwen3", "apr:F16", "gguf:F16", "blk.1.attn_q.weight", SPLIT_HALF),
]


def all_rows(layers: int = 2) -> list[str]:
    return [f"blk.{layer}.attn_{part}.weight" for layer in range(layers) for part in "qk"]


@pytest.mark.sample(2)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[:4]))
def test_one_tensor_in_the_other_order_is_found(tmp_path: Path, case: Any, side: Any) -> None:
    name, broken, other, tensor, expected = case
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    fault = faults.rope_order_changed(tensor)
    report = compared(tmp_path, tiny(name, ffn=128), *operands, fault, side, reference=reference)
    _, layer, stem, _ = tensor.split(".")
    cause = Cause(ORDER, tensor, side, declared=NAMES[expected], actual=NAMES[2 - expected])
    assert_proven(report, f"layers.{layer}.{stem.removeprefix('attn_')}", cause)


@pytest.mark.sample(2)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("name", "broken", "true"),
    [
        ("llama", "apr:F16", 2),
        ("llama", "apr-gguf:F16", 0),
        ("mistral", "apr:F16", 2),
        ("qwen2", "apr-gguf:F16", 2),
    ],
)
def test_rope_type_that_all_rows_contradict_is_one_finding(
    tmp_path: Path, name: str, broken: str, true: int, side: Any
) -> None:
    operands, reference = ((broken, "hf:F16"), "right") if side == "left" else (("hf:F16", broken), "left")
    report = compared(tmp_path, name, *operands, faults.rope_type(2 - true), side, reference=reference)
    assert_proven(report, "layers.0.q", Cause(TYPE, KEY, side, declared=2 - true, actual=true))


def test_missing_rope_type_is_judged_by_the_names_of_the_tensors(tmp_path: Path) -> None:
    """Without it GGUF names mean interleaved rows of a llama; the file's lie in halves."""
    fault = [*map(faults.rope_order_changed, all_rows()), faults.config_removed(KEY)]
    report = compared(tmp_path, "llama", "apr-gguf:F16", "hf:F16", fault)
    assert_proven(report, "layers.0.q", Cause(TYPE, KEY, declared=None, actual=SPLIT_HALF))


def test_all_rows_of_an_apr_in_the_other_order_are_its_rope_type(tmp_path: Path) -> None:
    fault = list(map(faults.rope_order_changed, all_rows()))
    report = compared(tmp_path, "llama", "apr:F16", "gguf:F16", fault)
    assert_proven(report, "layers.0.q", Cause(TYPE, KEY, declared=SPLIT_HALF, actual=INTERLEAVED))


@pytest.mark.parametrize(("operand", "other"), [("gguf:F16", "hf:F16"), ("hf:F16", "apr:F16")])
def test_all_rows_of_another_container_are_a_finding_for_each_tensor(
    tmp_path: Path, operand: str, other: str
) -> None:
    """Neither a GGUF file nor a folder has a key that could say it."""
    fault = list(map(faults.rope_order_changed, all_rows()))
    report = compared(tmp_path, "llama", operand, other, fault)
    assert_proven(report, "layers.0.q", *(Cause(ORDER, tensor) for tensor in all_rows()))


def test_all_but_one_of_an_apr_are_a_finding_for_each_tensor(tmp_path: Path) -> None:
    fault = list(map(faults.rope_order_changed, all_rows()[:-1]))
    report = compared(tmp_path, "llama", "apr:F16", "gguf:F16", fault)
    assert_proven(report, "layers.0.q", *(Cause(ORDER, tensor) for tensor in all_rows()[:-1]))
