"""Every architecture: what llama.cpp computes from a converted folder is what transformers computes from the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixtures.architectures import RECIPES
from fixtures.oracles import llamacpp_logits, transformers_logits
from fixtures.recipes import Recipe, build_folder
from rosetta.compare.options import Options
from rosetta.convert import convert

pytestmark = [pytest.mark.sweep, pytest.mark.requires_transformers, pytest.mark.requires_llamacpp]
IDS = [5, 9, 17, 33, 2, 8, 40, 100, 7, 31, 64, 12, 3, 3, 90, 21]
EXACT = 5e-5  # of logits of about 5, both in float32
GELU_TABLE = 2e-2  # llama.cpp looks GELU up in half precision, and every layer adds to it
SAID = {name: recipe for name, recipe in RECIPES.items() if recipe.gguf is None}


@pytest.mark.parametrize("name", SAID)
def test_llamacpp_computes_what_transformers_does(tmp_path: Path, name: str) -> None:
    pytest.importorskip("llama_cpp")
    recipe: Recipe = SAID[name]
    folder = build_folder(tmp_path / "hf", recipe)
    done = convert(str(folder), tmp_path / "out.gguf", Options(diagnose=False))
    assert done.comparison is not None
    assert done.comparison.verdict == "match", done.comparison.reason
    got, want = llamacpp_logits(tmp_path / "out.gguf", IDS), transformers_logits(folder, IDS)
    assert np.abs(got - want).max() <= (GELU_TABLE if recipe.gelu else EXACT) * max(
        1.0, np.abs(want).max() / 5
    )
