"""A window on the tokens that are seen: it shows in the scores of a prompt that is longer, and is latent before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_causes, assert_clean, assert_proven
from fixtures.comparing import TOKENS, compared

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
