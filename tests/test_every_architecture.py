"""Every architecture: a folder that transformers made gives transformers' logits, its canonical form gives them in
llama.cpp, and the pair of both is clean; where transformers has no class, llama.cpp is the one oracle. A recipe that
llama.cpp cannot run says why.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fixtures.architectures import CHECKPOINTS, RECIPES, build_tiny
from fixtures.canonical_gguf import write_canonical
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_logits, transformers_logits
from fixtures.recipes import Recipe
from rosetta.architectures import all_architectures
from rosetta.compare.local_error import Sums, local_error
from rosetta.compare.noise import RoundingOfPair
from rosetta.compare.options import Options
from rosetta.convert import convert
from rosetta.model import Model, open_model
from rosetta.ops.op import NotComputable, Step
from rosetta.ops.rotary import STILL
from rosetta.settings_table import SETTINGS
from rosetta.transformer import Transformer, inputs_of
from rosetta.weight_cache import WeightCache

pytestmark = [pytest.mark.sweep, pytest.mark.requires_transformers]
IDS = [5, 9, 17, 33, 2, 8, 40, 100, 7, 31, 64, 12, 3, 3, 90, 21]
EXACT = 2e-5  # of logits of about 5, both in float32
GELU_TABLE = 2e-2  # llama.cpp looks GELU up in half precision, and every layer adds to it
# What is known to be missing, by test; a strict expectation, so a name that begins to pass has to leave its list.
NO_TABLE = """
    glm-dsa muse-glimmer step35
"""  # the fixtures' GGUF writer leaves out what sets them apart: indexers, norms of one number, halved rotation
# Its factors go by how many tokens there are so far: keys keep those of their time.
BY_LENGTH = "phi3-longrope-long"
DEEP = "gemma3n"  # after 25 layers transformers' own float32 is further than the limit from float64


def every_recipe(unfinished: str = "", raises: tuple[type[BaseException], ...] = (AssertionError,)) -> Any:
    """Every recipe, those of a list expected to miss what the test asserts."""
    assert set(unfinished.split()) <= set(RECIPES)
    missing = pytest.mark.xfail(reason="see the lists above", raises=raises, strict=True)
    return pytest.mark.parametrize(
        "name",
        [pytest.param(name, marks=missing if name in unfinished.split() else ()) for name in sorted(RECIPES)],
    )


every_model = pytest.mark.parametrize("name", sorted({**RECIPES, **CHECKPOINTS}))


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a recipe, built once in this process."""

    @cache
    def built(name: str) -> Path:
        return build_tiny(tmp_path_factory.mktemp("recipe") / name, name)

    return built


def model_of(folder: Path) -> Model:
    """The folder, opened."""
    return open_model(folder)


def test_every_architecture_that_is_run_is_that_of_a_model(folder_of: Any) -> None:
    held = {model_of(folder_of(name)).architecture.name for name in {**RECIPES, **CHECKPOINTS}}
    assert {own.name for own in all_architectures() if own.runs} - held == set()


@every_recipe()
def test_folder_gives_transformers_logits(folder_of: Any, name: str) -> None:
    folder = folder_of(name)
    ours, theirs = Transformer(model_of(folder))(IDS).numpy(), transformers_logits(folder, IDS)
    limit = EXACT * max(1.0, float(np.abs(theirs).max()))
    if name in DEEP.split():  # no further apart than two runs in float32 are that stray as far from float64
        exact = Transformer(model_of(folder), dtype=torch.float64)(IDS).numpy()
        limit = 2 * float(np.abs(theirs - exact).max())
        assert limit < 1e-3 * np.abs(theirs).max()
    assert np.abs(ours - theirs).max() < limit
    assert theirs.std() > 0.1, "logits hardly differ: the comparison would say nothing"


@every_model
@pytest.mark.parametrize("chunks", [(1,), (5, 1, 3)])
def test_tokens_one_by_one_give_what_all_at_once_give(
    folder_of: Any, name: str, chunks: tuple[int, ...]
) -> None:
    model = model_of(folder_of(name))
    if name in BY_LENGTH.split():
        ours, theirs = (
            run(chunks) for run in (lambda c: Transformer(model, chunks=c)(IDS), cached(folder_of(name)))
        )
        assert (ours - theirs).abs().max() < EXACT * max(1.0, float(theirs.abs().max()))
        return
    whole = Transformer(model, dtype=torch.float64)(IDS)
    assert (Transformer(model, dtype=torch.float64, chunks=chunks)(IDS) - whole).abs().max() < 1e-9


def cached(folder: Path) -> Callable[[tuple[int, ...]], Tensor]:
    """Logits by transformers of chunks of the tokens, what is behind the last one one by one, with its own cache."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()

    def run(chunks: tuple[int, ...]) -> Tensor:
        cache, found, start = None, [], 0
        while start < len(IDS):
            size = chunks[min(len(found), len(chunks) - 1)]
            with torch.no_grad():
                given = {} if cache is None else {"past_key_values": cache}
                output = model(torch.tensor([IDS[start : start + size]]), use_cache=True, **given)
            cache, start = output.past_key_values, start + size
            found.append(output.logits[0])
        return torch.cat(found)

    return run


@every_recipe(NO_TABLE, (AssertionError, KeyError, ValueError, NotComputable))
def test_canonical_form_is_what_llamacpp_runs(folder_of: Any, tmp_path: Path, name: str) -> None:
    pytest.importorskip("llama_cpp")
    recipe: Recipe = RECIPES[name]
    if recipe.gguf is not None:
        pytest.skip(f"GGUF cannot say it: {recipe.gguf}")
    model = model_of(folder_of(name))
    path = write_canonical(tmp_path / "model.gguf", model)
    ours, theirs = Transformer(open_model(path))(IDS).numpy(), llamacpp_logits(path, IDS)
    limit = GELU_TABLE if recipe.gelu else EXACT
    assert np.abs(ours - theirs).max() < limit * max(1.0, float(np.abs(theirs).max()))
    report = compared_files(folder_of(name), path, tokens=tuple(IDS))
    assert (report.verdict, [f.kind for f in report.findings]) == ("match", [])


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_llamacpp_runs_what_transformers_has_no_class_for(folder_of: Any, tmp_path: Path, name: str) -> None:
    folder, path = folder_of(name), tmp_path / "model.gguf"
    convert(str(folder), path, Options(), verify=False)
    report = compared_files(folder, path, tokens=tuple(IDS))
    assert (report.verdict, [f.kind for f in report.findings]) == ("match", [])
    ours, theirs = Transformer(model_of(folder))(IDS).numpy(), llamacpp_logits(path, IDS)
    limit = GELU_TABLE if CHECKPOINTS[name].gelu else EXACT
    assert np.abs(ours - theirs).max() < limit * max(1.0, float(np.abs(theirs).max()))
    assert theirs.std() > 0.1, "logits hardly differ: the comparison would say nothing"


NOT_HELD = {
    "aria", "cosmos3-edge", "hunyuan-vl-four", "hyperclovax", "hyperclovax-plain", "hyperclovax-vision", "lfm3",
    "mllama", "qwen3-asr",
    "bamba-partial", "bloom-of-norms", "deepseek2-glm4lite-eps", "deepseek2-v3-nofunc", "exaone4-hybrid",
    "gemma2-scalar", "gemma3n", "gemma4-nosoftcap", "glm-eps", "gpt-oss-untruncated", "granite-swa-bases",
    "granitehybrid-rope", "laguna-pattern", "llama-rope-dynamic", "llama4-chunk", "mellum-bases", "minicpm3-base",
    "mistral-window", "mistral4-beta", "phimoe", "qwen25vl", "qwen2vl", "qwen3moe-unnormalised",
}  # fmt: skip


def test_few_recipes_are_not_held_to_llamacpp() -> None:
    """Those whose recipe says what keeps GGUF or llama.cpp from running the same model."""
    assert {name for name, recipe in RECIPES.items() if recipe.gguf is not None} == NOT_HELD


class Watched(Step):
    """A step that remembers what was read."""

    def __init__(self, model: Model, layer: int | None) -> None:
        self.keys: set[str] = set()
        self.read: set[str] = set()
        super().__init__(model, layer, WeightCache())

    def __getitem__(self, key: str) -> Any:
        self.keys.add(key)
        return super().__getitem__(key)

    def source(self, name: str) -> Any:
        self.read.add(self.full_name(name))
        return super().source(name)


@every_model
def test_every_operation_declares_what_it_reads_and_bounds_its_rounding(folder_of: Any, name: str) -> None:
    model = model_of(folder_of(name))
    single, double = Transformer(model), Transformer(model, dtype=torch.float64)
    values: dict[str, Tensor] = {"tokens": torch.tensor(IDS)}
    for node in model.graph:
        inputs = inputs_of(node, values)
        with torch.inference_mode():
            step = Watched(model, node.layer)
            node.op.compute(step, *inputs)
            assert step.keys <= set(node.keys), node.name
            assert step.read <= {*node.required, *node.optional}, node.name
            y = values[node.name] = single.compute(node, inputs)
            exact = double.compute(node, [x if x.dtype == torch.int64 else x.double() for x in inputs])
            parts = node.op.parts(
                single.step(node), RoundingOfPair(model, model, {}, torch.float32), y, *inputs
            )
            error = (y.double() - exact).float()
            sums = [Sums.of(part.of(error), part.sigma(), part.of(y)) for part in parts]
        assert local_error(sums).worst_ratio < 1, node.name
    worked_out = {STILL}  # of the sections, which are named when they are wrong
    assert model.graph.keys - worked_out <= set(SETTINGS), "without a row it has no name when it is wrong"
