"""gpt-oss with its experts in MXFP4, as its own folders are: clean beside the plain folder it was packed from, and
codes in the other order, or rows of blocks that belong to other rows, are found."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures import packing
from fixtures.architectures import RECIPES
from fixtures.causes import assert_clean
from fixtures.comparing import compared_files
from fixtures.recipes import build_folder
from rosetta.model import open_model

pytestmark = pytest.mark.requires_transformers
TOKENS = (5, 9, 17, 33, 2, 8, 40)
EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with plain experts, [experts, in, out]."""
    return build_folder(tmp_path_factory.mktemp("plain") / "gpt-oss", RECIPES["gpt-oss"])


def packed(plain: Path, target: Path, broken: str = "") -> Path:
    """The folder with packed experts; one layer's `broken` part has blocks of its first rows exchanged."""
    copytree(plain, target)
    held: dict[str, torch.Tensor] = {}
    for name, values in load_file(plain / "model.safetensors").items():
        if not name.endswith(EXPERTS):
            held[name] = values
            continue
        parts = packing.gpt_oss_experts(values.float().transpose(1, 2).contiguous())
        if name == broken:
            parts = {ending: part.roll(1, dims=1).contiguous() for ending, part in parts.items()}
        held |= {name + ending: part for ending, part in parts.items()}
    save_file(held, target / "model.safetensors", {"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "mxfp4"}})
    )
    return target


def test_packed_experts_are_the_plain_ones_but_for_rounding(tmp_path: Path, plain: Path) -> None:
    folder = packed(plain, tmp_path / "packed")
    model = open_model(folder)
    assert model.unknown == ()
    report = compared_files(folder, plain, tokens=TOKENS)
    assert_clean(report)
    assert report.weights.differing_tensors == []
    assert report.left.dtypes["MXFP4:E2M1"] == 2 * model.block_count


def test_blocks_of_other_rows_are_found(tmp_path: Path, plain: Path) -> None:
    folder = packed(plain, tmp_path / "packed", "model.layers.1.mlp.experts.down_proj")
    report = compared_files(folder, plain, tokens=TOKENS)
    assert report.verdict == "divergent"
    assert {found.tensor.partition(".")[0] for found in report.findings if found.tensor} == {"blk"}
    assert {found.kind for found in report.findings} == {"layout.permuted"}
    assert {found.layer for found in report.findings} == {1}
