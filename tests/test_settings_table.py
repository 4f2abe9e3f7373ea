"""The table of settings: a row for every key that any file can have, true to what the program does with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import Llama3Scaling, build
from fixtures.comparing import tiny
from rosetta.model import open_model
from rosetta.ops.pointwise import ACTIVATIONS
from rosetta.rope_scaling import RopeScaling
from rosetta.settings_table import KEYS, SETTINGS, Shows

TYPES: dict[str, Any] = {
    "count": int, "number": float, "flag": bool, "text": str, "table": RopeScaling | None, "token": int | list,
}  # fmt: skip


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("operand", ["apr:F16", "apr-gguf:F16", "gguf:F16", "hf:F16"])
def test_every_setting_of_a_model_has_a_row_and_is_of_its_kind(
    tmp_path: Path, name: str, operand: str
) -> None:
    scaling = {"rope_scaling": Llama3Scaling()} if name == "llama" else {}
    model = open_model(build(tmp_path, tiny(name, layers=1, **scaling), operand))
    for key, value in model.config.items():
        assert isinstance(value.value, TYPES[SETTINGS[key].value]), (key, value.value)
        assert isinstance(value.value, bool) == (SETTINGS[key].value == "flag")


def test_keys_are_unique() -> None:
    assert len(KEYS) == len(SETTINGS)


def test_published_values_are_those_that_can_be_computed() -> None:
    assert SETTINGS["activation"].published == tuple(ACTIVATIONS)


@pytest.mark.parametrize("row", [row for row in KEYS if row.published], ids=lambda row: row.key)
def test_published_values_are_of_the_settings_kind_and_distinct(row: Any) -> None:
    assert all(isinstance(value, TYPES[row.value]) for value in row.published)
    assert len(set(row.published)) == len(row.published)


def test_setting_without_a_finding_has_nothing_to_prove_one_with() -> None:
    for row in KEYS:
        if row.kind is None:
            assert (row.shows, row.published, row.own_hypothesis) == (Shows.WHERE_READ, (), False)
