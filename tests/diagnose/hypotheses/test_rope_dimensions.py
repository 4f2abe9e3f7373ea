"""Another number of rotated dimensions shows at q_rope."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.architectures import RECIPES
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import TOKENS, compared, tiny
from fixtures.recipes import build_folder
from rosetta import compare

KIND, KEY = "config.rope_dimensions", "rope.dimension_count"


@pytest.mark.sample(4)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("name", "broken", "other", "said"),
    [
        ("qwen2", "gguf:F16", "hf:F16", 8),
        ("qwen2", "apr:F16", "gguf:Q8_0", 8),
        ("qwen3", "gguf:F16", "apr:F16", 4),
        ("qwen3", "apr:F16", "gguf:F16", 12),
        ("llama", "gguf:F16", "gguf:F16", 8),
        ("mistral", "gguf:F16", "apr-gguf:F16", 4),
    ],
)
def test_other_number_is_found_and_proven(
    tmp_path: Path, name: str, broken: str, other: str, said: int, side: Any
) -> None:
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    spec, fault = tiny(name, ffn=128), faults.rope_dimensions(said)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    assert_proven(report, "layers.0.q_rope", Cause(KIND, KEY, side, declared=said, actual=16))


@pytest.mark.parametrize("reference", ["left", "right"])
@pytest.mark.parametrize("said", [18, 1 << 16])
def test_more_than_a_head_has_is_proven_on_whichever_side_is_believed(
    tmp_path: Path, said: int, reference: Any
) -> None:
    spec, fault = tiny("qwen2", ffn=128), faults.rope_dimensions(said)
    report = compared(tmp_path, spec, "gguf:F16", "gguf:F16", fault, "left", reference=reference)
    assert_proven(report, "layers.0.q_rope", Cause(KIND, KEY, "left", declared=said, actual=16))


@pytest.mark.requires_transformers
@pytest.mark.parametrize("reference", ["left", "right"])
def test_a_share_of_none_of_a_head_is_proven_on_whichever_side_is_believed(
    tmp_path: Path, reference: Any
) -> None:
    """transformers rotates nothing of heads of 16 by a share of 0.01."""
    whole, broken = build_folder(tmp_path / "whole", RECIPES["phi2"]), tmp_path / "broken"
    shutil.copytree(whole, broken)
    config = json.loads((broken / "config.json").read_text())
    config["rope_parameters"]["partial_rotary_factor"] = 0.01
    (broken / "config.json").write_text(json.dumps(config))
    report = compare(broken, whole, tokens=TOKENS, reference=reference)
    side, actual = ("left", 8) if reference == "right" else ("right", 0)
    assert_proven(report, "layers.0.q_rope", Cause(KIND, KEY, side, actual=actual))  # type: ignore[arg-type]
