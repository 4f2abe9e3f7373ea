"""RMSNorm for LayerNorm: no file can say it of these architectures, a recorded run can have been so computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import build
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared_files, tiny
from fixtures.recording import recorded


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_run_with_layer_norms_is_told_from_one_with_rms_norms(tmp_path: Path, name: str) -> None:
    model = build(tmp_path, tiny(name, bias_std=0.0), "gguf:F16")
    trace = recorded(tmp_path / "run.safetensors", model, overrides={"norm_type": "layer"})
    report = compared_files(model, f"trace:{trace}", tokens=None)
    cause = Cause("config.norm_type", "norm_type", declared="rms", actual="layer")
    assert_proven(report, "layers.0.attn_norm", cause)
