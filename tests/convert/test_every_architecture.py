"""Every architecture: what llama.cpp computes from a converted folder, and transformers from a folder made of that
again, is what transformers computes from the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
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
# Folders that transformers does not load, or computes otherwise, for what their own classes call their settings and
# weights; each is found once it loads.
NOT_BACK = {
    "gpt-oss-plain": "experts of its own layout",
    "granitehybrid": "the class expects its shared network elsewhere",
    "granitehybrid-dense": "the class expects its shared network elsewhere",
    "granitemoe-shared": "the class of the shared expert is another one",
    "kimi-linear": "the class takes its kinds of layers from another key",
    "laguna": "the config wants its heads as a number and a list",
    "llama4": "experts of its own layout",
    "mellum": "the config wants a base for each kind of layer",
    "mimo2": "the config wants key heads as a number and a list",
    "minicpm3": "the class wants other sizes of its latent keys",
    "muse-glimmer": "transformers has it as a part of a model that sees",
    "sarvam-moe": "the folder says the type of another class",
    "stablelm-parallel": "norms of single heads have other names",
    "step35": "transformers has it as a part of a model that sees",
}
# Their classes build a text part of its full default size where the config has none.
HUGE = frozenset({"muse-glimmer", "step35"})
NOT_OVER_APR = {
    "gpt2": "fused tensors come back in parts",
    "laguna": "an .apr has no lists of heads",
    "step35": "an .apr has no lists of heads",
}
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


def known(missing: dict[str, str], never: frozenset[str] = frozenset()) -> list[Any]:
    """All recipes, with what is known to be missing expected to fail, for its reason; some are not even run."""
    return [
        pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=missing[name], run=name not in never))
        if name in missing
        else name
        for name in SAID
    ]


@pytest.mark.parametrize("name", known(NOT_BACK, HUGE))
def test_transformers_computes_the_same_of_the_folder_that_comes_back(tmp_path: Path, name: str) -> None:
    folder, back = build_folder(tmp_path / "hf", SAID[name]), tmp_path / "back"
    convert(str(folder), tmp_path / "out.gguf", Options(), verify=False)
    convert(str(tmp_path / "out.gguf"), back, Options(), verify=False)
    got, want = transformers_logits(back, IDS), transformers_logits(folder, IDS)
    assert np.abs(got - want).max() <= EXACT * max(1.0, np.abs(want).max() / 5)


@pytest.mark.parametrize("name", known(NOT_OVER_APR))
def test_way_over_apr_gives_the_same_gguf_tensors(tmp_path: Path, name: str) -> None:
    folder = build_folder(tmp_path / "hf", SAID[name])
    convert(str(folder), tmp_path / "straight.gguf", Options(), verify=False)
    convert(str(folder), tmp_path / "between.apr", Options(), verify=False)
    convert(str(tmp_path / "between.apr"), tmp_path / "over.gguf", Options(), verify=False)
    straight, over = (
        {t.name: (t.tensor_type, tuple(t.shape), t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}
        for path in (tmp_path / "straight.gguf", tmp_path / "over.gguf")
    )
    assert over.keys() == straight.keys()
    assert [name for name in straight if over[name] != straight[name]] == []
