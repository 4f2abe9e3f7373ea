"""Placing matrices that are numbered: of many experts quickly, because one that has no place speaks for all that are
alike; of no layer, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.architectures import RECIPES
from fixtures.recipes import build_folder
from rosetta.compare.options import Options
from rosetta.containers import open_container
from rosetta.convert import convert, placing
from rosetta.convert.folder_tensors import folder_candidates
from rosetta.convert.gguf_file import written_weights
from rosetta.convert.gguf_tensors import gguf_candidates
from rosetta.model import build_model


@pytest.mark.requires_transformers
def test_candidates_are_not_tried_for_each_expert_where_one_has_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    placed_before = placing._placed

    def counted(*given: object) -> object:
        tried.append(given[3].name)  # type: ignore[attr-defined]
        return placed_before(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(placing, "_placed", counted)
    model = build_model(open_container(build_folder(tmp_path / "hf", RECIPES["qwen3moe"])))
    weights = written_weights(model)
    placed, left = placing.place_weights(model, weights, "huggingface", folder_candidates(model, weights))
    assert left == []
    experts = [name for name in tried if ".experts." in name]
    kept = [tensor.name for tensor in placed if ".experts." in tensor.name]
    assert len(kept) == 3 * model["expert_count"] * model.block_count
    others = [name for name in experts if name not in kept]
    assert others  # biases, of which there are none
    assert all(".experts.0." in name for name in others)


@pytest.mark.requires_transformers
def test_numbered_matrices_outside_the_layers_are_stacked(tmp_path: Path) -> None:
    model = build_model(open_container(build_folder(tmp_path / "hf", RECIPES["gemma3n"])))
    weights = written_weights(model)
    placed, left = placing.place_weights(model, weights, "gguf", gguf_candidates(model, weights))
    assert [name for name in left if name in model.graph.dims] == []
    width = model["embedding_length"]
    dims = {tensor.name: tensor.dims for tensor in placed}
    assert dims["altup_proj.weight"] == dims["altup_unembd_proj.weight"] == (3, width, width)


@pytest.mark.requires_transformers
def test_experts_that_the_class_stacks_and_saves_one_by_one_come_back_one_by_one(tmp_path: Path) -> None:
    folder = build_folder(tmp_path / "hf", RECIPES["nemotron_h_moe-latent"])
    convert(str(folder), tmp_path / "out.gguf", Options(), verify=False)
    convert(str(tmp_path / "out.gguf"), tmp_path / "back", Options(), verify=False)
    assert open_container(tmp_path / "back").tensors.keys() == open_container(folder).tensors.keys()
