"""Keys that llama.cpp does not read of an architecture: with another value it gives the same logits, and so do we."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.architectures import RECIPES
from fixtures.canonical_gguf import tiny_pair
from fixtures.oracles import llamacpp_logits
from fixtures.restating import restated
from rosetta.architectures import find_architecture
from rosetta.model import open_model

pytestmark = [pytest.mark.requires_transformers, pytest.mark.requires_llamacpp]
IDS = [5, 9, 17, 33, 2, 8, 40, 100, 7, 31]
OTHER: dict[str, tuple[Any, Any]] = {  # two values; the one that the model has not is planted
    "expert_weights_norm": (True, False),
    "expert_gating_func": (1, 2),
    "expert_weights_scale": (3.0, 0.5),
    "attention.clamp_kqv": (0.1, 0.2),
    "attention.temperature_scale": (0.5, 0.2),
    "attention.temperature_length": (4, 6),
    "residual_of_norm": (True, False),
    "rope.dimension_count_swa": (8, 4),
}


def unread() -> list[tuple[str, str]]:
    """A recipe of each architecture that has such keys, with each of them."""
    found = {}
    for recipe, made in sorted(RECIPES.items()):
        own = find_architecture(recipe)
        if own is not None and made.gguf is None and own.gguf_unread:
            found.setdefault(own.gguf, [(recipe, key) for key in sorted(own.gguf_unread)])
    return [case for cases in found.values() for case in cases]


@pytest.mark.sample(1)
@pytest.mark.parametrize(("recipe", "key"), unread())
def test_another_value_changes_nothing(tmp_path: Path, recipe: str, key: str) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    model = open_model(file)
    first, second = OTHER[key]
    has = model.config[key].value if key in model.config else None
    planted = restated(file, tmp_path / "planted.gguf", {key: second if has == first else first})
    assert np.array_equal(llamacpp_logits(planted, IDS), llamacpp_logits(file, IDS))
    assert {k: v.value for k, v in open_model(planted).config.items()} == {
        k: v.value for k, v in model.config.items()
    }
