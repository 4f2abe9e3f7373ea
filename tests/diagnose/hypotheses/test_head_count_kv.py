"""Another number of kv heads is found at k, the first stage that has them, and v is accused of nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny

KIND, KEY = "config.head_count_kv", "attention.head_count_kv"


@pytest.mark.sample(4)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("name", "broken", "other", "said"),
    [
        ("llama", "gguf:F16", "gguf:F16", 4),
        ("llama", "apr:F16", "gguf:Q8_0", 1),
        ("mistral", "gguf:F16", "hf:F16", 1),
        ("qwen2", "apr:F16", "gguf:F16", 4),
        ("qwen3", "hf:BF16", "apr-gguf:F16", 4),
    ],
)
def test_other_number_is_found_and_proven(
    tmp_path: Path, name: str, broken: str, other: str, said: int, side: Any
) -> None:
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    spec = tiny(name, ffn=128)
    report = compared(tmp_path, spec, *operands, faults.head_count_kv(said), side, reference=reference)
    assert_proven(report, "layers.0.k", Cause(KIND, KEY, side, declared=said, actual=2))


@pytest.mark.parametrize("operand", ["hf:F16", "apr:F16", "gguf:F16"])
def test_missing_number_is_named_with_the_default_that_was_taken(tmp_path: Path, operand: str) -> None:
    other = "gguf:F16" if operand != "gguf:F16" else "hf:F16"
    report = compared(tmp_path, "llama", operand, other, faults.config_removed(KEY))
    assert_proven(report, "layers.0.k", Cause(KIND, KEY, declared=None, actual=2))
    assert f"{KEY} is 4 (default of " in report.findings[0].message
