"""Rows of a fused tensor that lie in other parts of it are put back; each fused tensor is one finding."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures.architectures import build_tiny
from fixtures.comparing import compared_files
from rosetta.compare.options import Options
from rosetta.convert import convert
from rosetta.repair import repair_operands

pytestmark = pytest.mark.requires_transformers
IDS = (5, 9, 17, 33, 2, 8, 40, 100)
FUSED = {
    "gpt2": ("transformer.h.1.attn.c_attn.weight", "blk.1.attn_qkv.weight", "layers.1.q"),  # turned
    "bloom": ("transformer.h.1.self_attention.query_key_value.bias", "blk.1.attn_qkv.bias", "layers.1.q"),
    "phi3": ("model.layers.1.self_attn.qkv_proj.weight", "blk.1.attn_qkv.weight", "layers.1.q"),
    "minicpm3": ("model.layers.1.self_attn.kv_b_proj.weight", "blk.1.attn_kv_b.weight", "layers.1.k"),
}


def with_rows_elsewhere(folder: Path, name: str) -> Path:
    """A folder in which the rows of one tensor lie in a random order."""
    weights = load_file(folder / "model.safetensors")
    turned = name.endswith("c_attn.weight")
    rows = weights[name].T if turned else weights[name]
    moved = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(3))]
    weights[name] = (moved.T if turned else moved).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", FUSED)
def test_rows_of_another_part_are_found(tmp_path: Path, name: str, side: Any) -> None:
    own, fused, stage = FUSED[name]
    folder = build_tiny(tmp_path / "sound", name)
    broken = with_rows_elsewhere(shutil.copytree(folder, tmp_path / "broken"), own)
    convert(str(folder), tmp_path / "model.gguf", Options(), verify=False)
    for other in (folder, tmp_path / "model.gguf"):
        operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
        report = compared_files(*operands, reference=reference, tokens=IDS)
        assert report.first_divergence is not None
        assert report.first_divergence.name == stage
        (found,) = report.findings
        assert (found.kind, found.tensor, found.side) == ("layout.permuted", fused, side)
        assert found.status == "confirmed"


def test_a_gguf_whose_fused_rows_lie_elsewhere_is_found(tmp_path: Path) -> None:
    folder = build_tiny(tmp_path / "hf", "phi3")
    broken = with_rows_elsewhere(shutil.copytree(folder, tmp_path / "broken"), FUSED["phi3"][0])
    convert(str(broken), tmp_path / "broken.gguf", Options(), dtype="Q8_0", verify=False)
    report = compared_files(tmp_path / "broken.gguf", folder, tokens=IDS)
    (found,) = report.findings
    assert (found.kind, found.tensor, found.status) == ("layout.permuted", FUSED["phi3"][1], "confirmed")


@pytest.mark.parametrize("name", ["gpt2", "minicpm3"])
def test_what_repair_writes_is_the_sound_file(tmp_path: Path, name: str) -> None:
    folder = build_tiny(tmp_path / "sound", name)
    broken = with_rows_elsewhere(shutil.copytree(folder, tmp_path / "broken"), FUSED[name][0])
    repair_operands(str(broken), str(folder), tmp_path / "fixed", Options(tokens=IDS))
    fixed, sound = (load_file(tmp_path / place / "model.safetensors") for place in ("fixed", "sound"))
    assert fixed.keys() == sound.keys()
    assert [name for name in sound if not torch.equal(fixed[name], sound[name])] == []
