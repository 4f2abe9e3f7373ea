"""A comparison on a device is the comparison on the CPU: everything is moved there, nothing is mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures import faults
from fixtures.comparing import compared_files, tiny
from fixtures.pairs import pair
from fixtures.pretend_cuda import pretended_cuda
from fixtures.recording import recorded
from rosetta import blocks
from rosetta.ops import attention
from rosetta.report.report import Report

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
FAULTS = {
    "transposed": faults.transposed("blk.0.attn_k.weight"),
    "scaled": faults.scaled("blk.1.ffn_down.weight", 1.5),
    "zeroed": faults.zeroed("blk.0.attn_v.weight"),
    "corrupted": faults.corrupted("blk.0.attn_q.weight", start=64, nbytes=32, seed=1),
    "nonfinite": faults.nonfinite("blk.1.attn_output.weight"),
    "norm": faults.offset("blk.0.ffn_norm.weight", 1.0),
    "epsilon": faults.norm_epsilon(1e-2),
}
ON = {"left_device": "cuda", "right_device": "cuda"}


def told(report: Report) -> Any:
    """What the report says, and its numbers to four digits: a matrix at another address rounds in another order."""
    found = report.model_dump(
        mode="json", include={"verdict", "first_divergence", "compared", "weights", "config"}
    )
    return found | {
        "stages": [
            (s.name, s.status, s.local and pytest.approx(s.local.worst_ratio, 1e-4)) for s in report.stages
        ],
        "findings": [(f.kind, f.side, f.tensor, f.key, f.status, f.message) for f in report.findings],
        "refuted": [(r.kind, r.tensor, r.stage) for r in report.refuted],
    }


def test_the_pretended_device_does_not_mix_with_the_cpu() -> None:
    with pretended_cuda():
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        assert there.device.type == "cuda"
        assert (there * 2.0).sum().item() == 6
        assert (there + torch.tensor(1.0)).is_cuda, "a scalar may come from the CPU"
        assert torch.equal(there.cpu() + here, torch.full((3,), 2.0))
        for mixed in (lambda: there + here, lambda: torch.cat([there, here]), lambda: there.numpy()):
            with pytest.raises((RuntimeError, TypeError), match="cuda"):
                mixed()


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("architecture", "devices"),
    [(name, ON) for name in ARCHITECTURES]
    + [("llama", {"left_device": "cuda"}), ("gpt2", {"right_device": "cuda"})],
)
def test_a_clean_pair_gives_the_report_of_the_cpu(
    tmp_path: Path, architecture: str, devices: dict[str, str]
) -> None:
    files = pair(tmp_path, tiny(architecture), "apr:F16", "gguf:Q8_0")
    expected = compared_files(*files)
    assert expected.verdict in ("match", "drift")
    with pretended_cuda():
        assert told(compared_files(*files, **devices)) == told(expected)


@pytest.mark.parametrize("devices", [ON, {"left_device": "cuda"}, {"right_device": "cuda"}])
def test_attention_scores_in_parts_give_the_report_of_the_cpu(
    tmp_path: Path, devices: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pair(tmp_path, tiny("llama"), "apr:F16", "gguf:Q8_0", faults.attention_scale(0.2))
    expected = compared_files(*files)
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 1)
    with pretended_cuda():
        assert told(compared_files(*files, **devices)) == told(expected)


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_proven_there(tmp_path: Path, name: str) -> None:
    files = pair(tmp_path, tiny("qwen2"), "gguf:Q8_0", "apr:F32", FAULTS[name])
    expected = compared_files(*files)
    assert [finding.status for finding in expected.findings] == ["confirmed"]
    with pretended_cuda():
        assert told(compared_files(*files, **ON)) == told(expected)


def test_a_recorded_run_is_a_reference_there(tmp_path: Path) -> None:
    good, broken = pair(tmp_path, tiny("llama"), "gguf:F16", "gguf:F16", FAULTS["scaled"], side="right")
    operands = (broken, f"trace:{recorded(tmp_path / 'run.safetensors', good)}")
    expected = compared_files(*operands)
    assert [finding.kind for finding in expected.findings] == ["value.scaled"]
    with pretended_cuda():
        assert told(compared_files(*operands, **ON)) == told(expected)


def test_stages_that_a_recorded_run_lacks_leave_the_same_doubt_there(tmp_path: Path) -> None:
    source, own = pair(tmp_path, tiny("llama"), "hf:F32", "gguf:Q8_0")
    lacking = ("q_rope", "attn_scores", "attn_out", "ffn_act")
    trace = recorded(
        tmp_path / "run.safetensors",
        source,
        edit=lambda stages: ((n, x) for n, x in stages if n.rpartition(".")[2] not in lacking),
    )
    expected = compared_files(own, f"trace:{trace}", tokens=None)
    assert expected.verdict == "drift"
    with pretended_cuda():
        assert told(compared_files(own, f"trace:{trace}", tokens=None, **ON)) == told(expected)


@pytest.mark.sample(15)
@pytest.mark.parametrize("dtype", sorted(blocks.FORMATS))
def test_every_dtype_is_decoded_there(dtype: str) -> None:
    raw = torch.randint(0, 100, (blocks.nbytes(dtype, (2, 512)),), dtype=torch.uint8)
    noisy = blocks.block_format(dtype).write_sigma is not None
    for decode in (blocks.decode, blocks.sigma) if noisy else (blocks.decode,):
        expected = decode(dtype, raw, (2, 512))
        with pretended_cuda():
            found = decode(dtype, raw.to("cuda"), (2, 512))
            assert found.is_cuda
            torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0, equal_nan=True)
