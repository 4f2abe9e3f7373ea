"""A GGUF goes by one name for several classes: its folder is of one that gives its tensors back as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fixtures.architectures import RECIPES, build_tiny
from fixtures.oracles import transformers_logits
from rosetta.compare.options import Options
from rosetta.containers import open_container
from rosetta.convert import convert

IDS = [5, 9, 17, 33, 2, 8, 40, 100]
EXACT = 5e-5  # of logits of about 5, both in float32
pytestmark = pytest.mark.requires_transformers


@pytest.mark.parametrize(
    ("name", "owner"), [("bailingmoe2", "BailingMoeV2ForCausalLM"), ("sarvam-moe", "SarvamMoEForCausalLM")]
)
def test_what_is_added_to_choose_experts_keeps_its_mean(tmp_path: Path, name: str, owner: str) -> None:
    """Sarvam's has none, and the converter takes it off; Ling's has one."""
    build_tiny(tmp_path / "hf", name)
    for source, target in (("hf", "first.gguf"), ("first.gguf", "back"), ("back", "second.gguf")):
        convert(str(tmp_path / source), tmp_path / target, Options(), verify=False)
    assert json.loads((tmp_path / "back" / "config.json").read_text("utf-8"))["architectures"] == [owner]
    first, second = (open_container(tmp_path / f"{name}.gguf") for name in ("first", "second"))
    assert [n for n in first.tensors if first.read(n).tobytes() != second.read(n).tobytes()] == []


# Of the part that sees, and of layers that attend to an image.
UNMET = (
    "model.vis",
    "model.multi_modal",
    "model.projector",
    "model.view_sep",
    "model.image_newline",
    "model.layers.1.cross",
)
SEEING = [name for name, recipe in RECIPES.items() if recipe.vision]


@pytest.mark.parametrize(
    "name",
    ["ernie4_5-vl-moe", "gemma4-unified", *(pytest.param(name, marks=pytest.mark.sweep) for name in SEEING)],
)
def test_a_folder_of_an_apr_that_also_sees_is_of_the_part_that_reads(tmp_path: Path, name: str) -> None:
    """An `.apr` has no settings of a part that sees: of the whole, transformers would make another. ERNIE's files hold
    numbers for the experts of images beside those of a text."""
    build_tiny(tmp_path / "hf", name)
    for source, target in (("hf", "model.apr"), ("model.apr", "back")):
        convert(str(tmp_path / source), tmp_path / target, Options(), verify=False)
    got, want = (transformers_logits(tmp_path / folder, IDS, anew=UNMET) for folder in ("back", "hf"))
    assert np.abs(got - want).max() <= EXACT
