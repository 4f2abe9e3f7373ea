"""The repaired run beside the run as stored: what a repair does not touch is taken over, and is what it would be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.comparing import compared_files, tiny
from fixtures.pairs import pair
from fixtures.recording import recorded
from rosetta.compare import pair as module

FAULTS: dict[str, Any] = {
    "transposed": faults.transposed("blk.0.attn_k.weight"),
    "scaled": faults.scaled("blk.1.ffn_down.weight", 1.5),
    "zeroed": faults.zeroed("blk.0.attn_v.weight"),
    "nonfinite": faults.nonfinite("blk.0.attn_output.weight"),
    "all not a number": [faults.nonfinite("blk.0.ffn_gate.weight", n) for n in range(40)],
    "missing": faults.dropped("blk.0.ffn_norm.weight"),
    "norm": faults.offset("blk.0.attn_norm.weight", 1.0),
    "epsilon": faults.norm_epsilon(1e-2),
    "layer": faults.layer_dropped(1),
    "two": [faults.scaled("blk.0.attn_q.weight", 2.0), faults.zeroed("blk.1.ffn_up.weight")],
}


def unassisted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "outcome_of_twin", lambda *_: None)


def alike(a: Any, b: Any) -> bool:
    """Whether two parts of reports say the same; what is summed over rows as they are compared, and what is summed over
    all of them at once, differ by float32's rounding."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-6, nan_ok=True)
    return bool(a == b)


@pytest.mark.sample(2)
@pytest.mark.parametrize("operands", [("gguf:F16", "apr:F16"), ("hf:BF16", "gguf:Q8_0")])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("fault", FAULTS)
def test_report_is_that_of_computing_everything_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operands: Any, side: Any, fault: str
) -> None:
    files = pair(tmp_path, tiny("llama"), *operands, FAULTS[fault], side)
    taken_over = compared_files(*files)
    unassisted(monkeypatch)
    anew = compared_files(*files)
    assert taken_over.findings
    for part in ("verdict", "stages", "findings", "refuted", "first_divergence", "weights"):
        one, other = (report.model_dump(include={part}) for report in (taken_over, anew))
        assert alike(one, other), part


def test_recorded_run_is_followed_in_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, clean = pair(tmp_path, tiny("llama"), "gguf:F16", "apr:F16", FAULTS["transposed"])
    path = recorded(tmp_path / "run.safetensors", clean)
    trace = f"trace:{path}"
    taken_over = compared_files(broken, trace)
    unassisted(monkeypatch)
    assert compared_files(broken, trace).findings == taken_over.findings != []


def test_noise_behind_a_repair_is_predicted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = pair(tmp_path, tiny("llama"), "hf:BF16", "gguf:Q8_0", FAULTS["norm"])
    predicted: Counter[str] = Counter()
    local = module.local_parts

    def counted(node: Any, *values: Any) -> Any:
        predicted[node.name] += 1
        return local(node, *values)

    monkeypatch.setattr(module, "local_parts", counted)
    compared_files(*files)
    assert predicted["layers.0.attn_norm"] > 1, "as stored, and with what was tried"
    assert {predicted[f"layers.{layer}.{op}"] for layer in (0, 1) for op in ("q", "ffn_gate", "ffn_out")} == {
        1
    }
    predicted.clear()
    unassisted(monkeypatch)
    compared_files(*files)
    assert predicted["layers.1.ffn_out"] == 2
