"""Gate and up that are halves of the columns of their fused matrix, turned: a converter takes it for `[in, out]`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from fixtures.architectures import RECIPES
from fixtures.canonical_gguf import tiny_pair
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared_files
from fixtures.llamacpp_converter import checkout, written_by_llamacpp
from fixtures.planting import planted
from fixtures.recipes import build_folder

pytestmark = pytest.mark.requires_transformers
STACK = "blk.1.ffn_{}_exps.weight"


def test_halves_of_columns_are_told_from_a_turned_matrix(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder, whole = tiny_pair(tmp_path, "qwen3moe")
    held = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(whole).tensors}
    fused = np.concatenate([held[STACK.format(part)] for part in ("gate", "up")], 1)  # [experts, 2F, H]
    left, right = (half.transpose(0, 2, 1) for half in np.split(fused, 2, 2))
    changes = {STACK.format("gate"): lambda _: left, STACK.format("up"): lambda _: right}
    broken = planted(whole, tmp_path / "broken.gguf", changes)
    cause = Cause("layout.fused_order", STACK.format("gate"), partner=STACK.format("up"))
    assert_proven(compared_files(broken, folder), "layers.1.ffn_gate", cause)


@pytest.mark.sweep
@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("width", [24, 32, 64])
@pytest.mark.parametrize("believed", ["folder", "gguf"])
def test_experts_of_transformers_5_are_one_fault_of_the_converter(
    tmp_path: Path, width: int, believed: str
) -> None:
    sources = checkout()
    if sources is None:
        pytest.skip("LLAMA_CPP names no checkout of llama.cpp")
    recipe = RECIPES["qwen3vlmoe"]
    recipe = replace(recipe, arguments={**recipe.arguments, "moe_intermediate_size": width})
    folder = build_folder(tmp_path / "folder", recipe)
    theirs = written_by_llamacpp(sources, folder, tmp_path / "theirs.gguf")
    pair = (theirs, folder) if believed == "folder" else (folder, theirs)
    report = compared_files(*pair)
    side = "left" if believed == "folder" else "right"
    assert {(f.kind, f.side, f.status) for f in report.findings} == {
        ("layout.fused_order", side, "confirmed")
    }
    assert [f.tensor for f in report.findings] == [f"blk.{n}.ffn_gate_exps.weight" for n in range(3)]
    assert all("llama.cpp's converter" in f.recommendation for f in report.findings)
