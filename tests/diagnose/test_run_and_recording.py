"""A runtime held to a recording of another run: two observed sides, compared as they are, the recording believed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fixtures import build
from fixtures.architectures import RECIPES
from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import tiny
from fixtures.recording import Stages, recorded
from rosetta.errors import UsageError
from rosetta.runtimes.live import requested, traced
from rosetta.runtimes.trace import open_recording, write_trace
from tests.conftest import Compare

pytestmark = [pytest.mark.requires_llamacpp, pytest.mark.requires_transformers]
IDS = (5, 17, 9, 33, 101, 7, 250)


def of_runtime(file: Path, runtime: str, model: Path) -> Path:
    """A trace of somebody else's runtime."""
    traced(requested(runtime, model, "", IDS, {}), file)
    return file


@pytest.mark.sample(4)
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("name", ["llama", "qwen3moe", "qwen35", "deepseek2-v3", "llama4", "gpt2"])
def test_a_run_agrees_with_recordings_of_other_runtimes(
    tmp_path: Path, compare: Compare, name: str, swapped: bool
) -> None:
    folder, model = tiny_pair(tmp_path, name)
    traces = {
        "transformers": of_runtime(tmp_path / "t.safetensors", "transformers", folder),
        "ours": recorded(tmp_path / "o.safetensors", model, tokens=IDS),
    }
    for maker, trace in traces.items():
        operands = (f"llamacpp:{model}", f"trace:{trace}")
        run = compare(*(operands[::-1] if swapped else operands), "--assert-match")
        assert run.exit_code == 0, (maker, run.stdout)
        assert run.report["verdict"] == ("drift" if RECIPES[name].gelu else "match"), (maker, run.stdout)
        assert run.report["findings"] == []
        assert run.report["reference"] == ("left" if swapped else "right"), "the recording is believed"


@pytest.mark.parametrize("subject", ["llamacpp", "transformers"])
def test_rows_of_a_recording_may_lie_in_either_order(tmp_path: Path, compare: Compare, subject: str) -> None:
    spec = tiny("llama")
    models = {"llamacpp": build(tmp_path, spec, "gguf:F32"), "transformers": build(tmp_path, spec, "hf:F32")}

    def halves(stages: Stages) -> Stages:
        for name, x in stages:
            turned = name.rpartition(".")[2] in ("q", "k", "q_rope", "k_rope")
            yield name, torch.cat([x[..., ::2], x[..., 1::2]], -1) if turned else x

    trace = recorded(
        tmp_path / "t.safetensors", models["llamacpp"], tokens=IDS, without=["config"], edit=halves
    )
    run = compare(f"{subject}:{models[subject]}", f"trace:{trace}", "--assert-match")
    assert (run.report["verdict"], run.report["findings"]) == ("match", []), run.stdout


@pytest.mark.parametrize(
    ("overrides", "kind"),
    [
        ({"attention.layer_norm_rms_epsilon": 1e-2}, "config.norm_epsilon"),
        ({"rope.freq_base": 500.0}, "config.rope_theta"),
    ],
    ids=["epsilon", "theta"],
)
def test_what_the_recorded_run_had_otherwise_is_named(
    tmp_path: Path, compare: Compare, overrides: dict[str, float], kind: str
) -> None:
    model = build(tmp_path, tiny("qwen2"), "gguf:F32")
    trace = recorded(tmp_path / "t.safetensors", model, tokens=IDS, overrides=overrides, without=["config"])
    run = compare(f"llamacpp:{model}", f"trace:{trace}", "--assert-match")
    assert run.exit_code == 1, run.stdout
    assert {(f["kind"], f["status"]) for f in run.report["findings"] if not f["latent"]} == {
        (kind, "confirmed")
    }


def test_stages_that_were_not_recorded_leave_no_fault(tmp_path: Path, compare: Compare) -> None:
    model = build(tmp_path, tiny("qwen2"), "gguf:F32")

    def some(stages: Stages) -> Stages:
        return (pair for pair in stages if pair[0].rpartition(".")[2] in ("embedding", "residual", "logits"))

    trace = recorded(tmp_path / "t.safetensors", model, tokens=IDS, edit=some)
    run = compare(f"llamacpp:{model}", f"trace:{trace}", "--assert-match")
    assert (run.report["verdict"], run.report["findings"]) == ("match", []), run.stdout


def test_a_recording_of_an_architecture_that_rosetta_does_not_know(tmp_path: Path, compare: Compare) -> None:
    _, model = tiny_pair(tmp_path, "qwen2")
    trace = of_runtime(tmp_path / "t.safetensors", "llamacpp", model)
    run = open_recording(trace)
    stages = [(name, run.stage(name)) for name in run.stages]
    facts = {"tokens": run.tokens, "architecture": "nobodys"}
    write_trace(tmp_path / "n.safetensors", ((name, x) for name, x in stages if x is not None), facts)
    report = compare(f"llamacpp:{model}", f"trace:{tmp_path / 'n.safetensors'}", "--assert-match").report
    assert (report["verdict"], report["findings"]) == ("match", [])


def test_other_tokens_than_the_recorded_ones_are_refused(tmp_path: Path) -> None:
    from rosetta.compare.options import Options
    from rosetta.diagnose import compare_operands

    model = build(tmp_path, tiny("qwen2"), "gguf:F32")
    trace = recorded(tmp_path / "t.safetensors", model, tokens=IDS)
    with pytest.raises(UsageError, match="recorded with other tokens"):
        compare_operands(f"llamacpp:{model}", f"trace:{trace}", Options(tokens=(1, 2, 3)))
