"""The config.json of a converted folder names the class that transformers has, and the type that this class has."""

from __future__ import annotations

import pytest

from rosetta.architectures import Architecture, all_architectures

pytestmark = pytest.mark.requires_transformers
WITH_CLASS = [
    a for a in all_architectures() if a.classes
]  # an .apr of a model that also sees becomes such a folder


@pytest.mark.parametrize("architecture", WITH_CLASS, ids=lambda architecture: architecture.name)
def test_model_type_is_that_of_the_class(architecture: Architecture) -> None:
    transformers = pytest.importorskip("transformers")
    own = getattr(transformers, architecture.classes[0], None)
    if own is None:
        pytest.skip(f"transformers has no {architecture.classes[0]}")
    assert (architecture.huggingface.model_type or architecture.name) == own.config_class.model_type


@pytest.mark.parametrize(
    "architecture",
    [a for a in all_architectures() if a.text_part],
    ids=lambda architecture: architecture.name,
)
def test_text_part_is_an_architecture_with_a_class(architecture: Architecture) -> None:
    transformers = pytest.importorskip("transformers")
    names = {other.name: other for other in all_architectures()}
    assert hasattr(transformers, names[architecture.text_part].classes[0])
