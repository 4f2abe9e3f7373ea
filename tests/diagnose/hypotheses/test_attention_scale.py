"""Another scale of the attention's products shows first in the scores, from two tokens on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_causes, assert_clean, assert_proven
from fixtures.comparing import compared, tiny

KIND, KEY = "config.attention_scale", "attention.scale"
OPERANDS = ["apr:F16", "apr-gguf:F16", "gguf:Q8_0"]


@pytest.mark.sample(16)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("name", "broken"),
    [(name, operand) for name in ("llama", "qwen2") for operand in OPERANDS]
    + [("mistral", "gguf:F16"), ("qwen3", "gguf:F16"), ("gpt2", "gguf:F16")],
)
def test_other_scale_is_found_and_proven(tmp_path: Path, name: str, broken: str, side: Any) -> None:
    operands, reference = ((broken, "hf:F32"), "right") if side == "left" else (("hf:F32", broken), "left")
    spec = tiny(name, ffn=128)
    report = compared(tmp_path, spec, *operands, faults.attention_scale(0.2), side, reference=reference)
    cause = Cause(KIND, KEY, side, declared=0.2, actual=spec.head_dim**-0.5)
    assert_proven(report, "layers.0.attn_scores", cause)


def test_scale_that_the_class_of_a_folder_does_not_read_is_noted(tmp_path: Path) -> None:
    """transformers' llama computes without it."""
    report = compared(tmp_path, "llama", "hf:F16", "gguf:F16", faults.attention_scale(0.2))
    assert_clean(report)
    assert any("attention_multiplier 0.2, which llama does not compute" in note for note in report.notes)


def test_scale_that_is_the_default_is_no_difference(tmp_path: Path) -> None:
    report = compared(tmp_path, "llama", "gguf:F16", "hf:F16", faults.attention_scale(0.25))
    assert_clean(report)


def test_one_token_hides_it(tmp_path: Path) -> None:
    report = compared(tmp_path, "llama", "gguf:F16", "apr:F16", faults.attention_scale(0.2), tokens=(17,))
    assert report.verdict == "match"
    assert_causes(report, Cause(KIND, KEY, declared=0.2, actual=0.25, latent=True, status="suspected"))
    (found,) = report.findings
    assert "from 2 tokens on" in found.message
