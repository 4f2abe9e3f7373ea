"""Keys that llama.cpp does not read of an architecture: with another value it gives the same logits, and so do we."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.architectures import RECIPES
from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_logits
from fixtures.restating import restated
from rosetta.architectures import find_architecture
from rosetta.model import Model, open_model
from rosetta.transformer import Transformer

pytestmark = [pytest.mark.requires_transformers, pytest.mark.requires_llamacpp]
IDS = [5, 9, 17, 33, 2, 8, 40, 100, 7, 31]
OTHER: dict[str, tuple[Any, Any]] = {  # two values; the one that the model has not is planted
    "expert_weights_norm": (True, False),
    "expert_gating_func": (1, 2),
    "expert_weights_scale": (3.0, 0.5),
    "attention.clamp_kqv": (0.1, 0.2),
    "attention.max_alibi_bias": (8.0, 4.0),
    "attention.temperature_scale": (0.5, 0.2),
    "attention.temperature_length": (4, 6),
    "attn_logit_softcapping": (0.5, 0.2),
    "embedding_scale": (3.0, 0.5),
    "final_logit_softcapping": (0.5, 0.2),
    "logit_scale": (3.0, 0.5),
    "residual_scale": (3.0, 0.5),
    "residual_of_norm": (True, False),
    "rope.dimension_count_swa": (8, 4),
    "rope.freq_base_swa": (50.0, 500.0),
    "rope.scaling.alpha": (4.0, 8.0),
    "rope.scaling.yarn_beta_fast": (64.0, 4.0),
    "rope.scaling.yarn_beta_slow": (3.0, 2.0),
    "use_parallel_residual": (True, False),
}


NOT_LOADED = ("glm-dsa", "muse-glimmer")  # llama.cpp loads no file of them that is made here


def recipes() -> list[str]:
    """A recipe of each architecture that llama.cpp runs."""
    found: dict[str, str] = {}
    for recipe, made in sorted(RECIPES.items()):
        own = find_architecture(recipe)
        if own is not None and made.gguf is None and recipe not in NOT_LOADED:
            found.setdefault(own.gguf, recipe)
    return list(found.values())


@pytest.mark.sample(4)
@pytest.mark.parametrize("recipe", recipes())
def test_other_values_change_nothing(tmp_path: Path, recipe: str) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    model = open_model(file)
    planted = {}
    for key, (first, second) in OTHER.items():
        if not model.architecture.llamacpp.computes_by(key):
            has = model.config[key].value if key in model.config else None
            planted[key] = second if has == first else first
    other = restated(file, tmp_path / "planted.gguf", planted)
    assert np.array_equal(llamacpp_logits(other, IDS), llamacpp_logits(file, IDS))
    assert values_of(open_model(other)) == values_of(model)


def test_the_bounds_of_yarn_are_read_of_mistral3_alone(tmp_path: Path) -> None:
    folder, file = tiny_pair(tmp_path, "llama-rope-yarn")
    table = json.loads((folder / "config.json").read_text())["rope_parameters"]
    table |= {"original_max_position_embeddings": 4096, "beta_fast": 4.0}
    stated = restated(folder, tmp_path / "stated", {"rope_parameters": table})
    keys = {"original_context_length": 4096, "yarn_beta_fast": 4.0}  # as llama.cpp's converter writes them
    planted = restated(file, tmp_path / "planted.gguf", {f"rope.scaling.{key}": keys[key] for key in keys})
    theirs = llamacpp_logits(planted, IDS)
    assert np.abs(Transformer(open_model(planted))(IDS).numpy() - theirs).max() < 1e-4
    assert np.abs(Transformer(open_model(stated))(IDS).numpy() - theirs).max() > 0.01
    (finding,) = compared_files(planted, stated, tokens=tuple(IDS)).findings
    assert (finding.kind, finding.status, finding.latent) == ("config.rope_scaling", "confirmed", False)


def values_of(model: Model) -> dict[str, Any]:
    return {key: value.value for key, value in model.config.items()}


def test_a_key_that_is_not_read_and_says_otherwise_is_a_latent_finding(tmp_path: Path) -> None:
    folder, file = tiny_pair(tmp_path, "mixtral")
    planted = restated(file, tmp_path / "planted.gguf", {"expert_gating_func": 2})
    (finding,) = compared_files(planted, folder, tokens=tuple(IDS)).findings
    assert (finding.kind, finding.side, finding.latent) == ("config.expert_gating", "left", True)
    assert finding.recommendation.startswith("take llama.expert_gating_func out of")
    twice = restated(planted, tmp_path / "again.gguf", {})
    assert compared_files(planted, twice, tokens=tuple(IDS)).findings == []
