"""config.json as checkpoints were published says what transformers' own spelling of the same model says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.architectures import RECIPES, build_tiny
from fixtures.published import SPELLINGS, published
from rosetta.model import open_model

# What says of a whole folder which class it is, not what the class computes.
OF_THE_CLASS = ("architecture",)
ALIKE = (
    "granitehybrid-rope",
    "nemotron_h",
    "step35",
    "mimo2",
    "mistral4-beta",
    "gptneox-serial",
    "hunyuan-moe",
)


def settings(folder: Path) -> dict[str, Any]:
    """The canonical settings of a folder."""
    return {key: value.value for key, value in open_model(folder).config.items() if key not in OF_THE_CLASS}


def names() -> list[Any]:
    """All recipes, those of which the default suite sees a few unmarked."""
    return [
        name if name in ALIKE else pytest.param(name, marks=pytest.mark.sweep)
        for name, recipe in RECIPES.items()
    ]


@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", names())
def test_published_spelling_says_the_same(tmp_path: Path, name: str) -> None:
    folder = build_tiny(tmp_path / "hf", name)
    other = published(folder, tmp_path / "published")
    if other is None:
        pytest.skip("published as transformers saves it")
    assert settings(other) == settings(folder)
    assert open_model(other).weights.keys() == open_model(folder).weights.keys()


@pytest.mark.requires_transformers
def test_every_spelling_is_one_of_a_recipe() -> None:
    import transformers

    kinds = {getattr(transformers, recipe.config).model_type for recipe in RECIPES.values()}
    assert SPELLINGS.keys() <= kinds
