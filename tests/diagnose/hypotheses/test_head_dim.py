"""Another size of a head: one finding for each key that a file has for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, tiny

KIND, KEY, VALUE = "config.head_dim", "attention.key_length", "attention.value_length"


@pytest.mark.sample(2)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("said", [8, 32])
@pytest.mark.parametrize(
    ("name", "broken", "other"),
    [
        ("llama", "apr:F16", "gguf:F16"),
        ("llama", "gguf:F16", "gguf:F16"),  # equal bytes: the config alone differs
        ("mistral", "hf:F16", "gguf:F16"),
        ("qwen3", "hf:BF16", "gguf:Q8_0"),
        ("qwen3", "gguf:F16", "hf:F16"),
    ],
)
def test_other_size_of_a_key_is_found_and_proven(
    tmp_path: Path, name: str, broken: str, other: str, said: int, side: Any
) -> None:
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    spec, fault = tiny(name, ffn=128), faults.config_set(KEY, said)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    assert_proven(report, "layers.0.q", Cause(KIND, KEY, side, declared=said, actual=16))


def test_size_of_a_value_is_a_key_of_its_own_in_gguf(tmp_path: Path) -> None:
    report = compared(tmp_path, "llama", "gguf:F16", "hf:F16", faults.config_set(VALUE, 8))
    assert_proven(report, "layers.0.v", Cause(KIND, VALUE, declared=8, actual=16))


def test_both_sizes_wrong_are_two_findings_in_gguf(tmp_path: Path) -> None:
    fault = [faults.config_set(KEY, 8), faults.config_set(VALUE, 8)]
    report = compared(tmp_path, "llama", "gguf:F16", "gguf:F16", fault)
    causes = [Cause(KIND, key, declared=8, actual=16) for key in (KEY, VALUE)]
    assert_proven(report, "layers.0.q", *causes)


def test_missing_size_is_named_with_the_default_that_was_taken(tmp_path: Path) -> None:
    """A Qwen3 folder without head_dim: transformers takes 128 whatever hidden / heads is."""
    report = compared(tmp_path, "qwen3", "hf:F16", "gguf:F16", faults.config_removed(KEY))
    assert_proven(report, "layers.0.q", Cause(KIND, KEY, declared=None, actual=16))
    assert "128 (default of transformers" in report.findings[0].message


@pytest.mark.parametrize("declared", [None, 32])
def test_a_believed_size_that_its_own_tensors_deny_is_accused(tmp_path: Path, declared: int | None) -> None:
    """Whichever side is believed; a file that states both sizes has both wrong."""
    fault = faults.config_removed(KEY) if declared is None else faults.config_set(KEY, declared)
    report = compared(tmp_path, "qwen3", "hf:F16", "gguf:F16", fault, "left", reference="left")
    keys = (KEY,) if declared is None else (KEY, VALUE)
    assert_proven(
        report, "layers.0.q", *(Cause(KIND, key, "left", declared=declared, actual=16) for key in keys)
    )
