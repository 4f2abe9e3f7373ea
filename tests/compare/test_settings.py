"""Two configurations, key by key: the same, different, or one of them only assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import Llama3Scaling, faults, pair
from fixtures.comparing import tiny
from fixtures.faults import Fault
from fixtures.memory import MemoryContainer
from rosetta.architectures import find_architecture
from rosetta.compare.results import ConfigDiff
from rosetta.compare.settings import compare_config, plain
from rosetta.config import Value
from rosetta.model import Model, open_model
from rosetta.rope_scaling import RopeScaling

FOUR, EIGHT = RopeScaling((4.0,) * 8), RopeScaling((8.0,) * 8)


def model(**config: Value) -> Model:
    architecture = find_architecture("llama")
    assert architecture is not None
    values = {key.replace("__", "."): value for key, value in config.items()}
    return Model(MemoryContainer({}, {}), architecture, values, {})


def row(
    left: Value | None, right: Value | None, key: str = "some.key", agrees: bool | None = None
) -> ConfigDiff:
    name = key.replace(".", "__")
    sides = [model(**({} if value is None else {name: value})) for value in (left, right)]
    (found,) = compare_config(sides[0], sides[1], agrees)
    return found


@pytest.mark.parametrize(
    ("key", "left", "right", "status"),
    [
        ("block_count", Value(2, "num_layers"), Value(2, "llama.block_count"), "same"),
        ("block_count", Value(2, "num_layers"), Value(3, "llama.block_count"), "differs"),
        ("activation", Value("silu"), Value("silu", "hidden_act"), "defaulted"),
        ("activation", Value("silu"), Value("gelu", "hidden_act"), "differs"),
        ("bos_token_id", None, Value(1, "bos"), "defaulted"),
        ("eos_token_id", Value([1, 2], "a"), Value(2, "b"), "same"),
        ("eos_token_id", Value([1, 2], "a"), Value(3, "b"), "differs"),
        ("eos_token_id", Value([1, 2], "a"), Value([2, 1], "b"), "same"),
        ("eos_token_id", Value(1, "a"), Value(2, "b"), "differs"),
        ("rope.scaling", Value(FOUR, "a"), Value(FOUR, "b"), "same"),
        ("rope.scaling", Value(FOUR, "a"), Value(EIGHT, "b"), "differs"),
        ("rope.scaling", Value(FOUR, "a"), Value(None), "differs"),
        ("rope.scaling", Value(FOUR, "a"), Value(RopeScaling((4.0,) * 4), "b"), "differs"),
        ("rope.scaling", Value(FOUR, "a"), Value(RopeScaling((4.0,) * 8, 1.1), "b"), "differs"),
        ("rope.scaling", Value(FOUR, "a"), Value(RopeScaling((4.00001,) * 8), "b"), "same"),
        ("rope.type", Value(0, "a"), Value(2, "b"), "same"),  # how a file lies, not what it computes
    ],
)  # fmt: skip
def test_row_has_the_status(key: str, left: Value | None, right: Value | None, status: str) -> None:
    assert row(left, right, key).status == status
    assert row(right, left, key).status == status, "the other way round"


def test_tied_on_one_side_and_a_copy_on_the_other_is_the_same_head() -> None:
    tied, stored = Value(True, "tie"), Value(False, None, "a head is stored")
    assert row(tied, stored, "tied_embeddings", True).status == "same"
    assert row(tied, stored, "tied_embeddings", False).status == "differs"
    assert row(tied, stored, "tied_embeddings", None).status == "differs"
    assert row(tied, tied, "tied_embeddings", False).status == "same"


def test_notes_say_whose_default_a_value_is() -> None:
    found = row(Value(1, None, "default of aprender"), Value(1, "key"))
    assert (found.note, found.left, found.right) == ("left: default of aprender", 1, 1)
    missing = row(Value(1, "key"), None)
    assert (missing.right, missing.note) == (None, "right: not stated")


def test_values_are_what_json_knows() -> None:
    assert plain(FOUR) == {"factors": [4.0] * 8, "magnitude": 1.0}
    assert plain("silu") == "silu"


@pytest.mark.parametrize(
    ("left", "right", "fault", "key", "expected"),
    [
        ("apr:F16", "gguf:F16", faults.norm_epsilon(1e-3), "attention.layer_norm_rms_epsilon", "differs"),
        ("apr:F16", "gguf:F16", faults.norm_epsilon(None), "attention.layer_norm_rms_epsilon", "defaulted"),
        ("gguf:F16", "apr:F16", faults.rope_theta(None), "rope.freq_base", "defaulted"),
        ("apr:F16", "gguf:F16", faults.rope_theta(5e5), "rope.freq_base", "differs"),
        ("apr:F16", "gguf:F16", (), "rope.scaling", "same"),
        ("hf:F16", "gguf:F16", (), "rope.scaling", "same"),
        ("hf:F16", "apr-gguf:F16", (), "rope.scaling", "same"),
        ("apr:F16", "gguf:F16", faults.rope_scaling_lost(), "rope.scaling", "differs"),
        ("gguf:F16", "hf:F16", faults.rope_scaling_lost(), "rope.scaling", "differs"),
        ("hf:F16", "gguf:F16", faults.config_set("eos_token_id", [1, 9]), "eos_token_id", "same"),
        ("hf:F16", "gguf:F16", faults.config_set("eos_token_id", [9]), "eos_token_id", "differs"),
    ],
)
def test_files_give_the_row(
    tmp_path: Path, left: str, right: str, fault: Fault, key: str, expected: str
) -> None:
    spec = tiny("llama", layers=1, rope_scaling=Llama3Scaling())
    sides = [open_model(path) for path in pair(tmp_path, spec, left, right, fault)]
    rows: dict[str, Any] = {found.key: found for found in compare_config(sides[0], sides[1], True)}
    assert rows[key].status == expected
    derived = {"rope.freq_base": {"rope.scaling"}}  # parameters mean other factors at another base
    others = {name for name, found in rows.items() if found.status == "differs" and name != key}
    assert others == (derived.get(key, set()) if expected == "differs" else set())


@pytest.mark.parametrize(
    ("right", "words"),
    [
        ("gguf:F16", "GGUF has no place for it, and llama.cpp"),
        ("apr:F16", ".apr has no place for it, and aprender"),
    ],
)
def test_a_window_that_a_converter_cannot_write_is_no_difference_but_a_note(
    tmp_path: Path, right: str, words: str
) -> None:
    """MistralConfig has a window of 4096 by default: every conversion of such a folder loses it."""
    paths = pair(tmp_path, tiny("mistral", layers=1), "hf:F16", right, faults.sliding_window(40))
    rows = compare_config(*(open_model(path) for path in paths), None)
    (row,) = [row for row in rows if row.key == "attention.sliding_window"]
    assert (row.left, row.right, row.status) == (40, 0, "defaulted")
    assert row.note.startswith(words)
    assert row.note.endswith("prompts of more than 40 tokens differ")
