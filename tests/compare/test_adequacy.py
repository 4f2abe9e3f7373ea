"""How many tokens a difference in config needs before any prompt can show it, and what a prompt hides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import build, faults
from fixtures.comparing import tiny
from rosetta.compare.adequacy import LONGEST, hidden_from, shortest_ids, tokens_needed
from rosetta.model import Model, open_model
from rosetta.rope_scaling import RopeScaling


def model(folder: Path, fault: Any = (), operand: str = "apr:F16", **changes: Any) -> Model:
    return open_model(build(folder, tiny("llama", layers=1, **changes), operand, fault))


@pytest.fixture
def clean(tmp_path: Path) -> Model:
    return model(tmp_path / "clean")


@pytest.mark.parametrize(
    ("fault", "needed"),
    [
        ((), {}),
        (faults.norm_epsilon(1e-3), {}),
        (faults.activation("gelu"), {}),
        (faults.rope_theta(5e5), {"rope.freq_base": 2}),
        (faults.attention_scale(0.2), {"attention.scale": 2}),
        (faults.rope_dimensions(8), {"rope.dimension_count": 2}),
        (faults.rope_scaling_added(4.0), {"rope.scaling": 2}),
        (faults.rope_type(0), {"rope.type": 2}),
        (faults.sliding_window(40), {"attention.sliding_window": 41}),
        (
            [faults.sliding_window(7), faults.rope_theta(5e5)],
            {"attention.sliding_window": 8, "rope.freq_base": 2},
        ),
    ],
)
def test_tokens_that_a_difference_needs(tmp_path: Path, clean: Model, fault: Any, needed: Any) -> None:
    other = model(tmp_path / "other", fault)
    assert tokens_needed(clean, other) == tokens_needed(other, clean) == needed
    ids = shortest_ids(clean, other)
    assert len(ids) == max([2, *needed.values()])
    assert hidden_from(len(ids), clean, other) == [], "the shortest prompt hides nothing"


def test_scaling_of_long_runs_needs_one(tmp_path: Path, clean: Model) -> None:
    """Dynamic NTK divides by one up to the context that the model was trained for."""
    ones = (1.0,) * (clean["rope.dimension_count"] // 2)
    dynamic = clean.repaired({"rope.scaling": RopeScaling(ones, beyond=32, growth=4.0)})
    halved = clean.repaired({"rope.scaling": RopeScaling((2.0,) * len(ones), beyond=32, growth=4.0)})
    assert tokens_needed(clean, dynamic) == tokens_needed(dynamic, clean) == {"rope.scaling": 33}
    assert tokens_needed(halved, dynamic) == {"rope.scaling": 2}
    (said,) = hidden_from(12, clean, dynamic)
    assert "shows from 33 tokens on" in said


def test_the_smaller_of_two_windows_counts(tmp_path: Path) -> None:
    models = [model(tmp_path / str(width), faults.sliding_window(width)) for width in (30, 12)]
    assert tokens_needed(*models) == {"attention.sliding_window": 13}


def test_one_token_hides_everything_rotary_whether_or_not_anything_differs(clean: Model) -> None:
    (said,) = hidden_from(1, clean, clean)
    assert "one token hides every rotary and attention-scale fault" in said
    assert hidden_from(2, clean, clean) == []


@pytest.mark.parametrize("count", [2, 12, 40])
def test_prompt_shorter_than_a_window_is_told(tmp_path: Path, clean: Model, count: int) -> None:
    (said,) = hidden_from(count, clean, model(tmp_path / "other", faults.sliding_window(40)))
    assert "attention.sliding_window differs, and shows from 41 tokens on" in said
    assert f"this prompt has {count}" in said


def test_nobody_is_made_to_wait_for_a_window_of_any_size(tmp_path: Path) -> None:
    clean = model(tmp_path / "clean", context=1 << 20)
    other = model(tmp_path / "other", faults.sliding_window(262_143), context=1 << 20)
    assert len(shortest_ids(clean, other)) == LONGEST
    (note,) = hidden_from(LONGEST, clean, other)
    assert "shows from 262144 tokens on; this prompt has 8192: give as many by --prompt-file" in note


def test_models_without_a_setting_need_nothing_for_it(tmp_path: Path, clean: Model) -> None:
    """GPT-2 has no rotary settings at all."""
    other = open_model(build(tmp_path / "gpt2", tiny("gpt2", layers=1), "gguf:F16"))
    assert not {key for key in tokens_needed(clean, other) if key.startswith("rope.")}


@pytest.mark.parametrize(
    ("left", "right", "width"), [(384, 384, 0), (384, 448, 0), (384, 384, 200), (8, 384, 20)]
)
def test_shortest_ids_lie_in_both_vocabularies(tmp_path: Path, left: int, right: int, width: int) -> None:
    fault = faults.sliding_window(width) if width else ()
    models = [
        model(tmp_path / "left", fault, "apr:F16", vocab=left),
        model(tmp_path / "right", (), "gguf:F16" if right >= 384 else "apr:F16", vocab=right),
    ]
    ids = shortest_ids(*models)
    assert len(ids) == max(2, width + 1)
    assert all(0 <= token < min(left, right) for token in ids)
    assert len(set(ids)) == min(len(ids), left) or len(set(ids)) == len(ids)
    assert ids == shortest_ids(*models[::-1]), "the same for the same vocabularies"
