"""A part of the network that was left out together with what counts it is one finding, of that count."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import compared_files, faulty
from fixtures.restating import restated

pytestmark = pytest.mark.requires_transformers
WIDTH = "expert_shared_feed_forward_length"


@pytest.mark.parametrize("counted", [0, 1])
def test_a_shared_expert_that_was_left_out(tmp_path: Path, counted: int) -> None:
    folder, file = tiny_pair(tmp_path, "glm4moe")
    lacking = restated(folder, tmp_path / "lacking", {"n_shared_experts": counted})
    weights = load_file(lacking / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "shared_expert" not in name}
    lost = len(weights) - len(kept)
    (lacking / "model.safetensors").unlink()
    save_file(kept, lacking / "model.safetensors", {"format": "pt"})

    report = compared_files(lacking, file, reference="right")

    assert report.verdict == "divergent"
    assert all(finding.status == "confirmed" and not finding.latent for finding in report.findings)
    if counted:  # what is counted and not there is missing, each by itself
        assert [finding.kind for finding in report.findings] == ["value.missing"] * lost
        return
    [finding] = report.findings
    assert (finding.kind, finding.side, finding.key) == ("config.expert_weights", "left", WIDTH)
    assert finding.evidence is not None
    assert finding.evidence.from_reference == f"{lost} weights"
    assert "write n_shared_experts 1 " in finding.recommendation
    assert f"by {lost} weights that this file lacks: blk.1.ffn_gate_shexp.weight, " in finding.message
    assert faulty(report)[0] == "layers.1.ffn_out"
