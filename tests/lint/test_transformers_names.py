"""The names that lint knows of transformers are transformers' own, and none is judged that a later one may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.plain_models import plain_folder, written
from rosetta.architectures import find_architecture
from rosetta.lint.engine import linted, selected_rules
from rosetta.lint.transformers_names import ACTIVATIONS, LAYER_TYPES, OF_SHARED_CLASSES, VERSION


@pytest.mark.requires_transformers
def test_the_names_are_those_of_transformers() -> None:
    import transformers
    from transformers import configuration_utils
    from transformers.activations import ACT2FN
    from transformers.models.auto import modeling_auto

    if tuple(map(int, transformers.__version__.split(".")[:2])) != VERSION:
        pytest.skip(f"the names are those of transformers {VERSION}")
    remapped = configuration_utils._LEGACY_LAYER_TYPE_REMAP
    assert frozenset((*configuration_utils.ALLOWED_LAYER_TYPES, *remapped)) == LAYER_TYPES
    assert frozenset(ACT2FN) == ACTIVATIONS
    tables = [getattr(modeling_auto, name) for name in dir(modeling_auto) if name.endswith("MAPPING_NAMES")]
    unnamed = {
        model_type
        for table in tables
        for model_type, classes in table.items()
        for one in ([classes] if isinstance(classes, str) else classes or ())
        if one and find_architecture(one) is not None and find_architecture(model_type) is None
    }
    assert unnamed == OF_SHARED_CLASSES


@pytest.mark.parametrize(
    "said", [{"transformers_version": "5.25.0.dev0"}, {"transformers_version": "6.0"}, {"auto_map": {}}]
)
def test_a_name_that_the_models_own_program_may_know_is_no_fault(
    tmp_path: Path, said: dict[str, Any]
) -> None:
    model = plain_folder()
    unknown = {
        "model_type": "of_tomorrow",
        "hidden_act": "gelu_11",
        "layer_types": ["full_attention", "far_attention"],
    }
    model.keys |= unknown | said
    path = written(model, tmp_path / "model-hf")
    assert "C225" not in {found.rule.id for found in linted(path, rules=selected_rules())}
    model.keys = {key: value for key, value in model.keys.items() if key not in said}
    model.keys["transformers_version"] = "5.24.0"
    again = linted(written(model, tmp_path / "again-hf"), rules=selected_rules())
    assert [found.fault.key for found in again if found.rule.id == "C225"] == list(unknown)
