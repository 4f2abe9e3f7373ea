"""A repaired GGUF file gives llama.cpp what the clean one gives; a repaired folder, transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import Llama3Scaling, build, faults, model_spec, pair
from fixtures.oracles import llamacpp_logits, transformers_logits
from tests.repair.conftest import Repair

IDS = [17, 10, 17, 28, 99, 3, 200, 41]
LLAMA, QWEN2 = model_spec("llama"), model_spec("qwen2")
LLAMA31 = model_spec("llama", rope_scaling=Llama3Scaling())
GGUF: list[tuple[str, Any, str, str, Any]] = [
    ("transposed", QWEN2, "gguf:F16", "hf:F16", faults.transposed("blk.0.attn_k.weight")),
    ("rope order", LLAMA, "gguf:Q8_0", "hf:F16", faults.rope_order_changed("blk.1.attn_q.weight")),
    ("nibbles", QWEN2, "gguf:Q4_K", "hf:F16", faults.nibbles_reordered("blk.1.ffn_down.weight")),
    ("norm lost", LLAMA, "gguf:F16", "hf:F16", faults.dropped("blk.1.ffn_norm.weight")),
    ("bias lost", QWEN2, "gguf:F16", "hf:F16", faults.dropped("blk.1.attn_q.bias")),
    ("layer lost", model_spec("llama", layers=3), "gguf:F16", "hf:F16", faults.layer_lost(1)),
    ("scaling lost", LLAMA31, "gguf:F16", "hf:F16", faults.rope_scaling_lost()),
    ("scaling invented", LLAMA, "gguf:F16", "hf:F16", faults.rope_scaling_added(4.0)),
    ("epsilon key lost", model_spec("llama", epsilon=1e-2), "gguf:F16", "hf:F16", faults.norm_epsilon(None)),
    ("theta", QWEN2, "gguf:Q8_0", "hf:F16", faults.rope_theta(500.0)),
    ("heads", LLAMA, "gguf:F16", "hf:F16", faults.head_count_kv(4)),
    ("too many layers", LLAMA, "gguf:F16", "hf:F16", faults.layer_count(3)),
    ("architecture", LLAMA, "gguf:F16", "hf:F16", faults.architecture("qwen2")),
    (
        "fused order",
        model_spec("gpt2"),
        "gguf:F16",
        "hf:F16",
        faults.fused_order("blk.0.attn_qkv.weight", "kqv"),
    ),
    ("head lost", model_spec("qwen2", tied=False), "gguf:F16", "hf:F16", faults.dropped("output.weight")),
    ("sign lost", QWEN2, "gguf:F32", "hf:F32", faults.scaled("blk.1.ffn_up.weight", -1)),
]


@pytest.mark.sample(3)
@pytest.mark.requires_llamacpp
@pytest.mark.parametrize(("spec", "left", "right", "fault"), [c[1:] for c in GGUF], ids=[c[0] for c in GGUF])
def test_llamacpp_gives_the_clean_files_logits(
    tmp_path: Path, repair: Repair, spec: Any, left: str, right: str, fault: Any
) -> None:
    pytest.importorskip("llama_cpp")
    wrong, believed = pair(tmp_path, spec, left, right, fault)
    clean = llamacpp_logits(build(tmp_path / "clean", spec, left), IDS)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    got = llamacpp_logits(run.fixed, IDS)
    if f"from {believed}" in run.out:  # what the folder holds is rounded otherwise
        assert np.abs(got - clean).max() <= 2e-3 * np.abs(clean).max()
    else:
        np.testing.assert_array_equal(got, clean)


@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (LLAMA, faults.rope_order_changed("blk.1.attn_q.weight")),
        (LLAMA31, faults.rope_scaling_lost()),
        (QWEN2, faults.rope_theta(500.0)),
        (model_spec("gpt2"), faults.fused_order("blk.0.attn_qkv.weight", "kqv")),
        (model_spec("qwen2", tied=False), faults.dropped("output.weight")),
    ],
    ids=["rope order", "scaling lost", "theta", "fused order", "head lost"],
)
def test_transformers_gives_the_clean_folders_logits(
    tmp_path: Path, repair: Repair, spec: Any, fault: Any
) -> None:
    pytest.importorskip("transformers")
    wrong, believed = pair(tmp_path, spec, "hf:F32", "gguf:F32", fault)
    clean = transformers_logits(build(tmp_path / "clean", spec, "hf:F32"), IDS)
    run = repair(wrong, believed)
    assert run.code == 0, run.out + run.err
    got = transformers_logits(run.fixed, IDS)
    np.testing.assert_allclose(got, clean, atol=1e-5 * float(np.abs(clean).max()))
