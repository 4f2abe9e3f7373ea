"""Variants that no recipe has, by the class's own keys: held to transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.architectures import RECIPES
from fixtures.canonical_gguf import write_canonical
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_logits, transformers_logits
from fixtures.recipes import build_folder
from fixtures.restating import restated
from rosetta.api import trace
from rosetta.model import open_model

pytestmark = pytest.mark.requires_transformers
IDS = [17, 10, 17, 28, 300, 5, 63, 299]


ATTENTION = {"alibi": True, "attn_pdrop": 0, "qk_ln": False, "softmax_scale": 0.1}
CASES = {  # recipe, other arguments of its class
    "starcoder-heads-of-their-own": ("starcoder", {"multi_query": False}),
    "mpt-softmax-scale": ("mpt", {"attn_config": ATTENTION}),
    "falcon-relu": ("falcon-7b", {"activation": "relu"}),
    "falcon-gelu-tanh": ("falcon-40b", {"activation": "gelu_pytorch_tanh"}),
}


@pytest.mark.parametrize("case", CASES)
def test_variant_is_computed_as_its_class_does(tmp_path: Path, case: str) -> None:
    name, changes = CASES[case]
    recipe = RECIPES[name]
    varied = replace(recipe, arguments={**recipe.arguments, **changes})
    folder, plain = build_folder(tmp_path / "hf", varied), build_folder(tmp_path / "plain", recipe)
    theirs = transformers_logits(folder, IDS)
    assert np.abs(theirs - transformers_logits(plain, IDS)).max() > 1e-4  # the variant shows
    ours = trace(folder, tokens=IDS)["logits"].numpy()
    assert np.abs(ours - theirs).max() < 1e-4 * max(1.0, float(np.abs(theirs).max()))


@pytest.mark.parametrize("name", ["gpt-oss", "laguna", "mistral3", "mistral4"])
def test_a_folder_without_a_table_of_the_rotation_is_scaled_as_its_class_does(
    tmp_path: Path, name: str
) -> None:
    plain = build_folder(tmp_path / "plain", RECIPES[name])
    folder = restated(plain, tmp_path / "hf", {"rope_parameters": None})
    theirs = transformers_logits(folder, IDS)
    assert np.abs(theirs - transformers_logits(plain, IDS)).max() > 1e-2
    ours = trace(folder, tokens=IDS)["logits"].numpy()
    assert np.abs(ours - theirs).max() < 1e-4 * max(1.0, float(np.abs(theirs).max()))
    assert "config.rope_scaling" in {
        found.kind for found in compared_files(folder, plain, tokens=tuple(IDS)).findings
    }


@pytest.mark.parametrize(("key", "stated"), [("alibi", False), ("alibi_bias_max", 4)])
def test_mpt_falls_off_as_its_class_has_it_whatever_is_stated(tmp_path: Path, key: str, stated: int) -> None:
    plain = build_folder(tmp_path / "plain", RECIPES["mpt"])
    folder = restated(plain, tmp_path / "hf", {f"attn_config.{key}": stated})
    assert np.array_equal(transformers_logits(folder, IDS), transformers_logits(plain, IDS))
    report = compared_files(folder, plain, tokens=tuple(IDS))
    assert (report.verdict, report.findings) == ("match", [])
    assert any(f"attn_config.{key} {stated}, which mpt does not compute" in note for note in report.notes)


def test_heads_of_cohere2_are_as_large_as_its_class_makes_them(tmp_path: Path) -> None:
    plain = build_folder(tmp_path / "plain", RECIPES["cohere2"])
    folder = restated(plain, tmp_path / "hf", {"head_dim": None})
    ours = trace(folder, tokens=IDS)["logits"].numpy()
    assert np.abs(ours - transformers_logits(plain, IDS)).max() < 1e-4


@pytest.mark.requires_llamacpp
def test_values_of_minicpm3_are_as_wide_as_its_gguf_says(tmp_path: Path) -> None:
    recipe = replace(RECIPES["minicpm3"], arguments={**RECIPES["minicpm3"].arguments, "v_head_dim": 24})
    folder = build_folder(tmp_path / "hf", recipe)
    file = write_canonical(tmp_path / "model.gguf", open_model(folder))
    report = compared_files(file, folder, tokens=tuple(IDS))
    assert (report.verdict, report.findings) == ("match", [])
    ours = trace(file, tokens=IDS)["logits"].numpy()
    np.testing.assert_allclose(ours, llamacpp_logits(file, IDS), atol=1e-4)
