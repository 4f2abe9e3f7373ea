"""A folder that was saved with its adapter still around its modules is one finding, whatever the other side has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fixtures.adapters import MODULES, merge, write_adapter
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared_files, tiny
from fixtures.pairs import build
from rosetta.compare.results import Side

SPEC = tiny("llama", hidden=128, ffn=192, tied=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("base"), SPEC, "hf:F32")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapter") / "lora", base, layers=2)


def wrapped(target: Path, base: Path, adapter: Path, prefix: str = "") -> Path:
    """The folder that save_pretrained makes of peft's own state dict."""
    shutil.copytree(base, target)
    tensors = {}
    for name, weight in load_file(base / "model.safetensors").items():
        adapted = any(name.endswith(f"{module}.weight") for module in MODULES)
        tensors[prefix + (name.replace(".weight", ".base_layer.weight") if adapted else name)] = weight
    for name, factor in load_file(adapter / "adapter_model.safetensors").items():
        own = name.removeprefix("base_model.model.").replace(".weight", ".default.weight")
        tensors[prefix + own] = factor
    save_file(tensors, target / "model.safetensors")
    return target


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
@pytest.mark.parametrize("side", ["left", "right"])
def test_beside_its_base_it_is_one_finding(
    tmp_path: Path, base: Path, adapter: Path, side: Side, prefix: str
) -> None:
    folder = wrapped(tmp_path / "wrapped", base, adapter, prefix)
    report = compared_files(*(folder, base) if side == "left" else (base, folder))
    assert_proven(report, "layers.0.q", Cause("adapter.merge", "adapter", side=side))
    [finding] = report.findings
    assert "8 modules" in finding.message
    assert "does not have it" in finding.message
    assert "merge_and_unload" in finding.recommendation


@pytest.mark.parametrize("side", ["left", "right"])
def test_beside_the_merged_model_its_scale_is_said(
    tmp_path: Path, base: Path, adapter: Path, side: Side
) -> None:
    folder = wrapped(tmp_path / "wrapped", base, adapter)
    right = merge(tmp_path / "merged", base, adapter)
    report = compared_files(*(folder, right) if side == "left" else (right, folder))
    assert_proven(report, "layers.0.q", Cause("adapter.merge", "adapter", side=side))
    assert "has it merged with the scale 1.5" in report.findings[0].message


def test_an_adapter_beside_weights_that_have_their_own_names_is_found_where_the_other_side_merged_it(
    tmp_path: Path, base: Path, adapter: Path
) -> None:
    folder = wrapped(tmp_path / "wrapped", base, adapter)
    held = load_file(folder / "model.safetensors")
    save_file({name.replace(".base_layer", ""): x for name, x in held.items()}, folder / "model.safetensors")
    report = compared_files(folder, merge(tmp_path / "merged", base, adapter))
    assert_proven(report, "layers.0.q", Cause("adapter.merge", "adapter"))
