"""Another activation in the feed-forward network is found at the first activation, once for all layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_causes, assert_clean, assert_proven
from fixtures.comparing import compared, tiny

KIND, KEY = "config.activation", "activation"
CASES = [
    # architecture, broken operand, the other, what is said, its canonical name, what is true
    ("llama", "hf:F16", "gguf:F16", "gelu", "gelu", "silu"),
    ("llama", "apr:F16", "gguf:F16", "relu", "relu", "silu"),
    ("mistral", "apr-gguf:F16", "hf:BF16", "gelu_new", "gelu_tanh", "silu"),
    ("qwen2", "apr:F16", "gguf:Q8_0", "gelu_pytorch_tanh", "gelu_tanh", "silu"),
    ("qwen3", "hf:BF16", "apr:F16", "relu", "relu", "silu"),
    ("gpt2", "apr:F16", "gguf:F16", "relu", "relu", "gelu_tanh"),
    ("gpt2", "hf:F16", "gguf:Q8_0", "silu", "silu", "gelu_tanh"),
]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[:4]))
def test_other_activation_is_found_and_proven(tmp_path: Path, case: Any, side: Any) -> None:
    name, broken, other, said, declared, actual = case
    operands, reference = ((broken, other), "right") if side == "left" else ((other, broken), "left")
    spec, fault = tiny(name, ffn=128), faults.activation(said)
    report = compared(tmp_path, spec, *operands, fault, side, reference=reference)
    cause = Cause(KIND, KEY, side, declared=declared, actual=actual)
    assert_proven(report, "layers.0.ffn_act", cause)


def test_two_forms_of_gelu_are_told_apart(tmp_path: Path) -> None:
    """They differ by less than 5e-4 anywhere: under the threshold where nothing behind them makes it larger."""
    spec = tiny("gpt2", layers=1, weight_std=0.2)
    report = compared(tmp_path, spec, "hf:F16", "gguf:F16", faults.activation("gelu"), threshold=1e-2)
    assert report.verdict == "match"
    assert_causes(report, Cause(KIND, KEY, declared="gelu", actual="gelu_tanh", latent=True))
    (stage,) = [stage for stage in report.stages if stage.name == "layers.0.ffn_act"]
    assert stage.status == "faulty", "it is beyond the arithmetic, however small"


def test_two_names_of_one_activation_are_no_difference(tmp_path: Path) -> None:
    report = compared(tmp_path, "llama", "hf:F16", "gguf:F16", faults.activation("swish"))
    assert_clean(report)
