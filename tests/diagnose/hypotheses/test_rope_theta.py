"""Another rotary base shows at q_rope from the second token on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.canonical_gguf import tiny_pair
from fixtures.causes import Cause, assert_causes, assert_proven
from fixtures.comparing import compared, compared_files, tiny
from fixtures.restating import restated

KIND, KEY = "config.rope_theta", "rope.freq_base"


@pytest.mark.sample(3)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("name", "broken", "other", "said"),
    [
        ("llama", "apr:F16", "gguf:F16", 500000.0),
        ("llama", "gguf:F16", "hf:F16", 10500.0),
        ("mistral", "hf-before-5:F16", "gguf:F16", 1000000.0),
        ("qwen2", "hf:BF16", "apr:F16", 10000.0),
        ("qwen3", "apr-gguf:F16", "gguf:F16", 5000000.0),
    ],
)
def test_other_base_is_found_and_proven(
    tmp_path: Path, name: str, broken: str, other: str, said: float, side: Any
) -> None:
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    spec = tiny(name, ffn=128)
    report = compared(tmp_path, spec, *operands, faults.rope_theta(said), side, reference=reference)
    cause = Cause(KIND, KEY, side, declared=said, actual=spec.theta)
    assert_proven(report, "layers.0.q_rope", cause)


def test_it_shows_from_the_second_token_on(tmp_path: Path) -> None:
    report = compared(tmp_path, "llama", "gguf:F16", "gguf:F16", faults.rope_theta(5e5))
    (stage,) = [stage for stage in report.stages if stage.name == "layers.0.q_rope"]
    assert stage.by_token is not None
    assert stage.by_token[0] == 0.0, "the first token stands at position 0"
    assert min(stage.by_token[1:]) > 0


@pytest.mark.parametrize("operand", ["apr:F16", "gguf:F16", "hf:F16"])
def test_missing_base_is_named_with_the_default_that_was_taken(tmp_path: Path, operand: str) -> None:
    other = "hf:F16" if operand.startswith("gguf") else "gguf:F16"
    report = compared(tmp_path, tiny("llama", theta=250000.0), operand, other, faults.rope_theta(None))
    assert_proven(report, "layers.0.q_rope", Cause(KIND, KEY, declared=None, actual=250000.0))
    assert f"{KEY} is 10000 (default of " in report.findings[0].message


def test_one_token_hides_it(tmp_path: Path) -> None:
    report = compared(tmp_path, "llama", "apr:F16", "gguf:F16", faults.rope_theta(5e5), tokens=(17,))
    assert report.verdict == "match"
    assert_causes(report, Cause(KIND, KEY, declared=5e5, actual=1e4, latent=True, status="suspected"))
    assert any("one token hides every rotary" in note for note in report.notes)


@pytest.mark.requires_transformers
def test_a_base_that_follows_from_another_is_put_down_to_that_one(tmp_path: Path) -> None:
    """llama.cpp turns Mellum's layers with a window with the base of the others, which the file states."""
    folder, file = tiny_pair(tmp_path, "mellum")
    broken = restated(file, tmp_path / "broken.gguf", {"rope.freq_base": 80000.0})
    report = compared_files(broken, folder)
    assert_proven(report, "layers.0.q_rope", Cause("config.rope_theta", "rope.freq_base", "left"))
