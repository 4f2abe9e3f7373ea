"""Another epsilon is found where the first norm is, once for all norms, and proven by the reference's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.comparing import compared, tiny

NAMES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
PAIRS = [
    ("apr:F16", "gguf:F16"),
    ("gguf:F16", "hf:F16"),
    ("hf:BF16", "apr:F16"),
    ("apr-gguf:F16", "gguf:Q8_0"),
]
CONTEXT = {"ffn": 128}  # blocks of 32 divide it


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("broken", "other"), PAIRS)
def test_wrong_epsilon_is_one_finding(tmp_path: Path, name: str, side: Any, broken: str, other: str) -> None:
    spec = tiny(name, **CONTEXT)
    operands = (broken, other) if side == "left" else (other, broken)
    reference = "right" if side == "left" else "left"
    report = compared(tmp_path, spec, *operands, faults.norm_epsilon(1e-3), side, reference=reference)
    key = f"attention.layer_norm_{'' if name == 'gpt2' else 'rms_'}epsilon"
    assert report.verdict == "divergent"
    assert report.first_divergence is not None
    assert report.first_divergence.name == "layers.0.attn_norm"
    assert [(f.kind, f.key, f.side, f.status, f.latent) for f in report.findings] == [
        ("config.norm_epsilon", key, side, "confirmed", False)
    ]
    (found,) = report.findings
    assert found.declared == pytest.approx(1e-3, rel=1e-6)
    assert found.actual == pytest.approx(spec.epsilon, rel=1e-6)
    assert (found.tensor, found.layer) == (None, None)
    assert found.evidence is not None
    assert found.evidence.before is not None
    assert found.evidence.after is not None
    assert found.evidence.predicted is not None
    assert found.evidence.after <= found.evidence.predicted < found.evidence.before


@pytest.mark.parametrize(("epsilon", "wrong"), [(1e-6, 1e-5), (1e-5, 1e-6), (1e-5, 1.1e-5), (1e-12, 1e-5)])
def test_small_difference_is_found_in_quantised_files_too(
    tmp_path: Path, epsilon: float, wrong: float
) -> None:
    """A norm's weight is F32 there: its noise is that of the arithmetic, and an epsilon shows through."""
    spec = tiny("llama", epsilon=epsilon, **CONTEXT)
    report = compared(tmp_path, spec, "gguf:Q4_0", "hf:F32", faults.norm_epsilon(wrong))
    assert [(f.kind, f.status) for f in report.findings] == [("config.norm_epsilon", "confirmed")]


def test_missing_epsilon_whose_default_is_another_is_found_and_its_default_named(tmp_path: Path) -> None:
    spec = tiny("llama", epsilon=1e-6)
    report = compared(tmp_path, spec, "apr:F16", "gguf:F16", faults.norm_epsilon(None))
    (found,) = report.findings
    assert (found.kind, found.status) == ("config.norm_epsilon", "confirmed")
    assert found.declared is None
    assert found.actual == pytest.approx(1e-6, rel=1e-6)
    assert "default of aprender for llama" in found.message


def test_missing_epsilon_whose_default_is_right_is_no_finding(tmp_path: Path) -> None:
    report = compared(tmp_path, tiny("llama", epsilon=1e-5), "apr:F16", "gguf:F16", faults.norm_epsilon(None))
    assert (report.verdict, report.findings) == ("match", [])
    (row,) = [row for row in report.config if row.key.endswith("epsilon")]
    assert row.status == "defaulted"


def test_epsilon_that_differs_only_beyond_float32_is_the_same(tmp_path: Path) -> None:
    report = compared(tmp_path, tiny("llama"), "apr:F16", "gguf:F16", faults.norm_epsilon(1e-5 + 1e-14))
    assert (report.verdict, report.findings) == ("match", [])


def test_wrong_norm_weight_is_not_called_an_epsilon(tmp_path: Path) -> None:
    report = compared(tmp_path, "llama", "apr:F16", "gguf:F16", faults.offset("blk.0.attn_norm.weight", 1.0))
    assert [found.kind for found in report.findings if found.kind.startswith("config.")] == []
    assert report.findings != []


def test_epsilon_and_a_weight_at_once_are_two_findings(tmp_path: Path) -> None:
    both = [faults.norm_epsilon(1e-3), faults.transposed("blk.1.attn_k.weight")]
    report = compared(tmp_path, "qwen2", "apr:F16", "gguf:F16", both)
    assert [(found.kind, found.status) for found in report.findings] == [
        ("config.norm_epsilon", "confirmed"), ("layout.transposed", "confirmed"),
    ]  # fmt: skip
