"""Rotary sections of a GGUF as llama.cpp takes them in a text: pairs of a fourth position are not turned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.architectures import RECIPES
from fixtures.canonical_gguf import tiny_pair, write_canonical
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_logits
from fixtures.recipes import build_folder, rope
from fixtures.restating import renamed, restated
from rosetta.model import open_model
from rosetta.ops.rotary import STILL
from rosetta.transformer import Transformer

pytestmark = [pytest.mark.requires_transformers, pytest.mark.requires_llamacpp]
IDS = [5, 9, 17, 33, 2, 8, 40, 100, 7, 31]
CLOSE = 1e-5  # of the largest logit, in float32


@pytest.mark.parametrize(
    ("recipe", "sections", "still"),
    [
        ("qwen2vl", [2, 2, 2, 2], (6, 7)),
        ("qwen2vl", [1, 1, 0, 2], (2, 3, 6, 7)),
        ("qwen3vl", [5, 5, 6, 0], (15,)),
        ("qwen3vl", [4, 4, 4, 4], (12, 13, 14, 15)),
        ("qwen3vlmoe", [4, 4, 4, 4], (12, 13, 14, 15)),
        ("qwen35", [2, 3, 3, 0], (6,)),
        ("qwen35moe", [1, 1, 1, 1], (3, 7)),
    ],
)
def test_pairs_are_turned_as_llamacpp_does(
    tmp_path: Path, recipe: str, sections: list[int], still: tuple[int, ...]
) -> None:
    folder, file = tiny_pair(tmp_path, recipe)
    other = restated(file, tmp_path / "other.gguf", {"rope.dimension_sections": sections})
    model, theirs = open_model(other), llamacpp_logits(other, IDS)
    assert model[STILL] == still
    assert np.abs(Transformer(model)(IDS).numpy() - theirs).max() < CLOSE * np.abs(theirs).max()
    assert np.abs(llamacpp_logits(file, IDS) - theirs).max() > 5 * CLOSE * np.abs(theirs).max()
    findings = [f for f in compared_files(other, folder, tokens=tuple(IDS)).findings if not f.latent]
    assert {(f.kind, f.side, f.status) for f in findings} == {("config.rope_sections", "left", "confirmed")}


def test_pairs_beside_each_other_of_ernie_are_turned_as_llamacpp_does(tmp_path: Path) -> None:
    _, file = tiny_pair(tmp_path, "ernie4_5")
    under = renamed(file, tmp_path / "under.gguf", "paddleocr")
    other = restated(under, tmp_path / "other.gguf", {"rope.dimension_sections": [2, 2, 2, 2]})
    theirs = llamacpp_logits(other, IDS)
    assert np.abs(Transformer(open_model(other))(IDS).numpy() - theirs).max() < CLOSE * np.abs(theirs).max()


def test_pairs_that_llamacpp_does_not_turn_are_its_own_choice(tmp_path: Path) -> None:
    """HunYuan-VL's four sections, which its folder's class turns all of."""
    rotation = {"head_dim": 32, "rope_parameters": rope(mrope_section=[4, 4, 4, 4])}
    folder = build_folder(tmp_path / "hf", replace(RECIPES["hunyuan-vl"], arguments=rotation))
    file = write_canonical(tmp_path / "model.gguf", open_model(folder))
    assert (open_model(folder)[STILL], open_model(file)[STILL]) == ((), (12, 13, 14, 15))
    (found,) = [f for f in compared_files(folder, file, tokens=tuple(IDS)).findings if not f.latent]
    assert (found.kind, found.key, found.status) == ("config.rope_sections", STILL, "confirmed")
    assert "llama.cpp turns no rotary pairs 12, 13, 14, 15 in a text" in found.message
    assert found.recommendation.startswith(f"run {folder}: ")


def test_published_sections_of_qwen3_vl_are_a_note_alone(tmp_path: Path) -> None:
    """The pairs 61 and 62 turn by less than 1e-5 in a short text."""
    own = RECIPES["qwen3vl"]
    rotation = rope(mrope_section=[24, 20, 20], mrope_interleaved=True, rope_theta=5e6)
    published = replace(own, arguments={"head_dim": 128, "rope_parameters": rotation})
    folder = build_folder(tmp_path / "hf", published)
    file = write_canonical(tmp_path / "model.gguf", open_model(folder))
    assert open_model(file)[STILL] == (61, 62)
    report = compared_files(folder, file, tokens=tuple(IDS))
    assert (report.verdict, report.findings) == ("match", [])
    assert any("llama.cpp turns no rotary pairs 61, 62" in note for note in report.notes)
    run = compared_files(file, f"llamacpp:{file}", tokens=tuple(IDS))
    assert (run.verdict, run.findings) == ("match", [])


@pytest.mark.parametrize("recipe", ["qwen2vl", "qwen3vl", "qwen35"])
def test_all_pairs_of_a_clean_file_are_turned(tmp_path: Path, recipe: str) -> None:
    folder, file = tiny_pair(tmp_path, recipe)
    assert open_model(file)[STILL] == ()
    assert [f for f in compared_files(file, folder, tokens=tuple(IDS)).findings if not f.latent] == []


@pytest.mark.parametrize("sections", [None, [0, 0, 0, 0]])
def test_sections_lost_of_glm_that_sees_are_named_and_not_the_rows_that_hang_on_them(
    tmp_path: Path, sections: list[int] | None
) -> None:
    """llama.cpp turns halves where there are some, and pairs where there are none."""
    folder, file = tiny_pair(tmp_path, "glm4v")
    lost = restated(file, tmp_path / "lost.gguf", {"rope.dimension_sections": sections})
    model, theirs = open_model(lost), llamacpp_logits(lost, IDS)
    assert np.abs(Transformer(model)(IDS).numpy() - theirs).max() < CLOSE * np.abs(theirs).max()
    assert np.abs(llamacpp_logits(file, IDS) - theirs).max() > 5 * CLOSE * np.abs(theirs).max()
    (found,) = compared_files(lost, folder, tokens=tuple(IDS)).findings
    assert (found.kind, found.key, found.side, found.status) == (
        "config.rope_sections", "rope.dimension_sections", "left", "confirmed"
    )  # fmt: skip
    assert "write glm4.rope.dimension_sections [2, 1, 1, 0] into" in found.recommendation
