"""Every architecture: what llama.cpp computes from a converted folder, and transformers from a folder made of that
again, is what transformers computes from the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from fixtures.architectures import CHECKPOINTS, RECIPES, build_tiny
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_logits, transformers_logits
from fixtures.recipes import Recipe, build_folder
from rosetta.compare.options import Options
from rosetta.convert import convert
from rosetta.model import open_model

pytestmark = [pytest.mark.sweep, pytest.mark.requires_transformers, pytest.mark.requires_llamacpp]
IDS = [5, 9, 17, 33, 2, 8, 40, 100, 7, 31, 64, 12, 3, 3, 90, 21]
EXACT = 5e-5  # of logits of about 5, both in float32
GELU_TABLE = 2e-2  # llama.cpp looks GELU up in half precision, and every layer adds to it
SIGHT = ("model.vis", "model.multi_modal", "model.projector", "model.view_sep")
SEEING = {name for name, recipe in RECIPES.items() if recipe.vision is not None}
SAID = {name: recipe for name, recipe in RECIPES.items() if recipe.gguf is None}


def contents(path: Path) -> dict[str, Any]:
    """What a GGUF file stores, by tensor: dtype, dims, bytes."""
    return {t.name: (t.tensor_type, tuple(t.shape), t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}


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


@pytest.mark.parametrize("name", SAID)
def test_transformers_computes_the_same_of_the_folder_that_comes_back(tmp_path: Path, name: str) -> None:
    folder, back = build_folder(tmp_path / "hf", SAID[name]), tmp_path / "back"
    convert(str(folder), tmp_path / "out.gguf", Options(), verify=False)
    convert(str(tmp_path / "out.gguf"), back, Options(), verify=False)
    got = transformers_logits(back, IDS, anew=SIGHT if name in SEEING else ())  # a GGUF has no part that sees
    want = transformers_logits(folder, IDS)
    assert np.abs(got - want).max() <= EXACT * max(1.0, np.abs(want).max() / 5)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_folder_that_transformers_has_no_class_for_comes_back(tmp_path: Path, name: str) -> None:
    """By the names of the class that there is now where there is one: chatglm's are glm's."""
    folder, back = build_tiny(tmp_path / "hf", name), tmp_path / "back"
    convert(str(folder), tmp_path / "out.gguf", Options(), verify=False)
    convert(str(tmp_path / "out.gguf"), back, Options(), verify=False)
    assert compared_files(folder, back, tokens=tuple(IDS)).verdict == "match"


@pytest.mark.parametrize("name", [*SAID, *CHECKPOINTS])
def test_a_gguf_comes_back_from_an_apr(tmp_path: Path, name: str) -> None:
    """And the folder that is made of such an .apr is the model still."""
    folder = build_tiny(tmp_path / "hf", name)
    convert(str(folder), tmp_path / "model.gguf", Options(), verify=False)
    proven(tmp_path / "model.gguf", tmp_path / "of-gguf.apr")
    proven(tmp_path / "of-gguf.apr", tmp_path / "back.gguf")
    proven(tmp_path / "of-gguf.apr", tmp_path / "back")
    first, back = (contents(tmp_path / name) for name in ("model.gguf", "back.gguf"))
    assert back.keys() == first.keys()
    assert [name for name in first if back[name] != first[name]] == []


@pytest.mark.parametrize("name", [*RECIPES, *CHECKPOINTS])
def test_a_folder_comes_back_from_an_apr(tmp_path: Path, name: str) -> None:
    folder = build_tiny(tmp_path / "hf", name)
    proven(folder, tmp_path / "between.apr")
    proven(tmp_path / "between.apr", tmp_path / "back")
    first, second = open_model(folder), open_model(tmp_path / "back")
    stored, back = first.container, second.container
    same = {tensor for tensor in back.tensors if stored.tensors.get(tensor) == back.tensors[tensor]}
    for tensor in same:
        assert back.read(tensor).tobytes() == stored.read(tensor).tobytes(), tensor
    # The part that reads, of a model that also sees, has names and dims of its own, and experts one by one.
    others = {weight.name: weight for weight in second.weights.values() if weight.entry.name not in same}
    assert len(others) < len(second.weights) or "text_config" in stored.metadata
    for name, weight in others.items():
        own = first.weights[name]
        assert (own.dtype, own.values().numpy().tobytes()) == (
            weight.dtype,
            weight.values().numpy().tobytes(),
        ), name


# The epsilons of Kimi Linear's latent norms and unit lengths: fixed by transformers, and the norms' own by llama.cpp.
FIXED = ("attention.latent_norm_epsilon", "ssm.l2_epsilon")


def proven(source: Path, target: Path) -> None:
    """Convert, and have it compared and linted."""
    done = convert(str(source), target, Options(tokens=tuple(IDS), diagnose=False))
    assert done.comparison is not None
    assert done.comparison.verdict == "match", done.comparison.reason
    lost = [said for said in done.done.lost if said.partition(" ")[0] not in FIXED]
    assert (done.faults, lost) == ((), [])


@pytest.mark.parametrize("name", [*SAID, *CHECKPOINTS])
def test_way_over_apr_gives_the_same_gguf_tensors(tmp_path: Path, name: str) -> None:
    folder = build_tiny(tmp_path / "hf", name)
    convert(str(folder), tmp_path / "straight.gguf", Options(), verify=False)
    convert(str(folder), tmp_path / "between.apr", Options(), verify=False)
    convert(str(tmp_path / "between.apr"), tmp_path / "over.gguf", Options(), verify=False)
    straight, over = (contents(tmp_path / name) for name in ("straight.gguf", "over.gguf"))
    assert over.keys() == straight.keys()
    assert [name for name in straight if over[name] != straight[name]] == []
