"""An indexer that has no choice changes no score, and its weights are compared all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fixtures.architectures import RECIPES
from fixtures.causes import Cause, assert_causes
from fixtures.comparing import compared_files
from fixtures.recipes import build_folder
from rosetta.model import open_model

pytestmark = pytest.mark.requires_transformers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return build_folder(tmp_path_factory.mktemp("deepseek32") / "hf", RECIPES["deepseek32"])


def test_all_that_the_folder_has_of_an_indexer_is_read(folder: Path) -> None:
    stored = [name for name in load_file(folder / "model.safetensors") if ".indexer." in name]
    assert len([name for name in open_model(folder).weights if ".indexer." in name]) == len(stored) > 0


@pytest.mark.parametrize(
    ("own", "stem"),
    [
        ("wk.weight", "attn_k.weight"),
        ("wq_b.weight", "attn_q_b.weight"),
        ("weights_proj.weight", "proj.weight"),
        ("k_norm.bias", "k_norm.bias"),
    ],
)
def test_wrong_weight_of_an_indexer_is_latent(folder: Path, tmp_path: Path, own: str, stem: str) -> None:
    broken = tmp_path / "hf"
    broken.mkdir()
    for file in folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights[f"model.layers.1.self_attn.indexer.{own}"] *= 2
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    report = compared_files(broken, folder)
    assert report.verdict == "match"
    cause = Cause("value.scaled", f"blk.1.indexer.{stem}", actual=2.0, latent=True)
    assert_causes(report, cause)
