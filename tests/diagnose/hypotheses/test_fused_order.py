"""Parts of a fused q/k/v in another order are put back in order; each fused tensor is one finding."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from fixtures import faults
from fixtures.architectures import RECIPES
from fixtures.causes import Cause, assert_causes, assert_proven
from fixtures.comparing import compared, compared_files, tiny
from fixtures.recipes import build_folder

KIND, ORDER = "layout.fused_order", "q, k, v"
ORDERS = ["".join(order) for order in permutations("qkv") if order != ("q", "k", "v")]


def parts(order: str) -> str:
    return ", ".join(order)


@pytest.mark.sample(10)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("broken", "other"), [("gguf:F16", "apr:F16"), ("hf:F16", "gguf:Q8_0"), ("gguf:Q8_0", "apr-gguf:F16")]
)
def test_other_order_of_a_fused_weight_is_found(
    tmp_path: Path, order: str, broken: str, other: str, side: Any
) -> None:
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    fault = faults.fused_order("blk.1.attn_qkv.weight", order)
    report = compared(tmp_path, tiny("gpt2", ffn=128), *operands, fault, side, reference=reference)
    stage = next(part for part, moved in zip("qkv", order, strict=True) if part != moved)
    cause = Cause(KIND, "blk.1.attn_qkv.weight", side, declared=ORDER, actual=parts(order))
    assert_proven(report, f"layers.1.{stage}", cause)


def test_weight_and_bias_are_two_findings_of_one_stage(tmp_path: Path) -> None:
    fault = [faults.fused_order(f"blk.0.attn_qkv.{leaf}", "vqk") for leaf in ("weight", "bias")]
    report = compared(tmp_path, "gpt2", "gguf:F16", "apr:F16", fault)
    causes = [Cause(KIND, f"blk.0.attn_qkv.{leaf}", actual=parts("vqk")) for leaf in ("weight", "bias")]
    assert_proven(report, "layers.0.q", *causes)


def test_order_and_a_part_that_is_wrong_besides(tmp_path: Path) -> None:
    """The order of the parts is undone first; the one that is still wrong is named by itself."""
    fault = [
        faults.fused_order("blk.0.attn_qkv.weight", "kqv"),
        faults.scaled("blk.1.ffn_up.weight", 2.0),
    ]
    report = compared(tmp_path, "gpt2", "gguf:F16", "apr:F16", fault)
    assert_causes(
        report,
        Cause(KIND, "blk.0.attn_qkv.weight", actual=parts("kqv")),
        Cause("value.scaled", "blk.1.ffn_up.weight", actual=2.0),
    )


@pytest.mark.requires_transformers
@pytest.mark.parametrize("side", ["left", "right"])
def test_parts_each_whole_that_should_lie_head_by_head_are_found(tmp_path: Path, side: Any) -> None:
    """GPT-NeoX has q, k and v of each head beside each other; the exporter has all of q, then of k and v."""
    pytest.importorskip("transformers")
    folder, broken = (build_folder(tmp_path / name, RECIPES["gptneox"]) for name in ("sound", "broken"))
    weights = load_file(broken / "model.safetensors")
    heads = json.loads((broken / "config.json").read_text())["num_attention_heads"]
    fused = "gpt_neox.layers.1.attention.query_key_value.weight"
    rows = weights[fused]
    whole = rows.view(heads, 3, -1, rows.shape[-1]).transpose(0, 1)
    weights[fused] = whole.reshape(rows.shape).contiguous()
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    operands, reference = ((broken, folder), "right") if side == "left" else ((folder, broken), "left")
    report = compared_files(*operands, reference=reference)
    wanted, found = f"{ORDER} of each of {heads} heads beside each other", f"{ORDER} each whole"
    assert_proven(
        report, "layers.1.q", Cause(KIND, "blk.1.attn_qkv.weight", side, declared=wanted, actual=found)
    )
