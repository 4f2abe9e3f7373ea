"""A window on the tokens that are seen: it shows in the scores of a prompt that is longer, and is latent before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.architectures import build_tiny
from fixtures.causes import Cause, assert_causes, assert_clean, assert_proven
from fixtures.comparing import TOKENS, compared, compared_files
from fixtures.restating import restated

KIND, KEY = "config.sliding_window", "attention.sliding_window"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("width", [4, len(TOKENS) - 1])
@pytest.mark.parametrize(
    ("name", "broken"), [("mistral", "hf:F16"), ("llama", "apr:F16"), ("qwen2", "apr:F16")]
)
def test_window_shorter_than_the_prompt_is_found(
    tmp_path: Path, name: str, broken: str, width: int, side: Any
) -> None:
    other = "apr:F16" if name == "mistral" else "hf:F16"
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    report = compared(tmp_path, name, *operands, faults.sliding_window(width), side, reference=reference)
    assert_proven(report, "layers.0.attn_scores", Cause(KIND, KEY, side, declared=width, actual=0))


@pytest.mark.parametrize("width", [len(TOKENS), 40])
def test_window_that_holds_the_prompt_is_latent_and_says_from_when_it_shows(
    tmp_path: Path, width: int
) -> None:
    report = compared(tmp_path, "llama", "apr:F32", "hf:F32", faults.sliding_window(width))
    assert report.verdict == "match"
    assert_causes(report, Cause(KIND, KEY, declared=width, actual=0, latent=True, status="suspected"))
    assert f"from {width + 1} tokens on" in report.findings[0].message
    assert any(f"shows from {width + 1} tokens on" in note for note in report.notes)


def test_window_that_no_context_fills_is_none(tmp_path: Path) -> None:
    assert_clean(compared(tmp_path, "mistral", "hf:F16", "apr:F16", faults.sliding_window(256)))


def test_a_window_is_one_though_the_context_does_not_fill_it(tmp_path: Path) -> None:
    """It is computed with whatever the context is, as transformers and llama.cpp do: a context that was written too
    small took it away."""
    planted = [faults.sliding_window(4), faults.config_set("context_length", 4)]
    report = compared(tmp_path, "llama", "apr:F16", "hf:F16", planted)
    assert_proven(report, "layers.0.attn_scores", Cause(KIND, KEY, declared=4, actual=0))


@pytest.mark.requires_transformers
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("first", "layers"), [(28, (False, False, False)), (1, (False, True, True))])
def test_a_window_that_one_side_has_in_no_or_other_layers(
    tmp_path: Path, first: int, layers: tuple[bool, ...], side: Any
) -> None:
    """A folder states the window and from which layer on; the other side has it in all, and no list."""
    folder = build_tiny(tmp_path / "whole", "qwen3")
    switched = {"use_sliding_window": True, "sliding_window": 4, "layer_types": None}
    other = restated(folder, tmp_path / "all", {**switched, "max_window_layers": 0})
    some = restated(folder, tmp_path / "some", {**switched, "max_window_layers": first})
    left, right = (some, other) if side == "left" else (other, some)
    report = compared_files(left, right, reference="right" if side == "left" else "left")
    assert_proven(
        report,
        f"layers.{layers.index(False)}.attn_scores",
        Cause(
            "config.layer_pattern",
            "attention.sliding_window_pattern",
            side,
            declared=None,
            actual=(True,) * 3,
        ),
    )
    assert f"sliding_attention in layer_types of {some}" in report.findings[0].recommendation
