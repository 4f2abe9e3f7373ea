"""`llamacpp:FILE` and `transformers:DIR` as operands: a runtime of somebody else's as a side of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from fixtures import build, faults, model_spec, packing
from fixtures.architectures import RECIPES
from fixtures.builders import gguf_contents
from fixtures.canonical_gguf import write_canonical
from fixtures.comparing import tiny
from fixtures.recipes import build_folder
from fixtures.writing import write
from rosetta.model import open_model
from rosetta.runtimes import live
from rosetta.runtimes.observed.capture import Capture, Facts, Overwrite, Stage
from tests.conftest import Compare


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3"])
def test_a_file_in_torch_and_in_llama_cpp_matches(
    tmp_path: Path, compare: Compare, architecture: str
) -> None:
    path = build(tmp_path, architecture, "gguf:F32")
    run = compare(path, f"llamacpp:{path}", "--assert-match", "--strict")
    assert run.exit_code == 0, run.stdout
    assert run.report["verdict"] == "match"
    assert run.report["findings"] == []
    assert run.report["right"]["runtime"] == "llamacpp"
    assert run.report["right"]["path"] == str(path)
    assert run.report["right"]["header_sha256"] == run.report["left"]["header_sha256"]
    assert run.report["right"]["file_bytes"] == path.stat().st_size
    skipped = [stage["name"] for stage in run.report["stages"] if stage["status"] == "skipped"]
    assert skipped == []
    assert any("flash_attn off, kv f32" in note for note in run.report["notes"])


@pytest.mark.requires_transformers
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gpt2"])
def test_a_file_in_torch_and_its_folder_in_transformers_match(
    tmp_path: Path, compare: Compare, architecture: str
) -> None:
    path, folder = build(tmp_path, architecture, "gguf:F32"), build(tmp_path, architecture, "hf:F32")
    run = compare(f"transformers:{folder}", path, "--assert-match", "--strict")
    assert run.exit_code == 0, run.stdout
    assert run.report["verdict"] == "match"
    assert run.report["left"]["runtime"] == "transformers"


@pytest.mark.requires_transformers
def test_a_fault_of_the_file_is_found_against_the_runtime_of_its_source(
    tmp_path: Path, compare: Compare
) -> None:
    folder = build(tmp_path, "llama", "hf:F32")
    path = build(tmp_path, "llama", "gguf:F32", faults.offset("blk.1.ffn_norm.weight", 1.0))
    run = compare(path, f"transformers:{folder}", "--assert-match")
    assert run.exit_code == 1
    assert run.report["first_divergence"]["name"] == "layers.1.ffn_norm"
    finding, *others = run.report["findings"]
    assert all(other["latent"] for other in others)  # of what the files say, which nothing of this run shows
    assert (finding["kind"], finding["side"], finding["tensor"]) == (
        "value.offset",
        "left",
        "blk.1.ffn_norm.weight",
    )


@pytest.mark.requires_llamacpp
def test_options_of_the_runtime_are_in_force_and_reported(tmp_path: Path, compare: Compare) -> None:
    path = build(tmp_path, "qwen2", "gguf:F32")
    run = compare(path, f"llamacpp:{path}", "--no-diagnose", "--runtime-option", "flash_attn=on")
    assert any("flash_attn on" in note for note in run.report["notes"])
    skipped = {stage["name"] for stage in run.report["stages"] if stage["status"] == "skipped"}
    assert skipped == {"layers.0.attn_scores", "layers.1.attn_scores"}


@pytest.mark.requires_llamacpp
def test_flash_attention_rounds_keys_and_values_whatever_they_are_kept_in(
    tmp_path: Path, compare: Compare
) -> None:
    path = build(tmp_path, "qwen2", "gguf:F32")
    options = ("--runtime-option", "flash_attn=on", "--threshold", "1e-7")
    run = compare(path, f"llamacpp:{path}", *options)
    assert run.report["verdict"] == "drift"
    [*found] = run.report["findings"]
    assert {finding["kind"] for finding in found} == {"runtime.precision"}
    assert found[0]["evidence"]["stage"] == "layers.0.attn_context"
    assert "brought to F16" in found[0]["message"]


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize(
    ("option", "said"),
    [("kvs=f16", "no runtime at hand has an option 'kvs'"), ("kv", "KEY=VALUE"), ("kv=f15", "f15")],
)
def test_a_wrong_option_is_one_sentence(tmp_path: Path, compare: Compare, option: str, said: str) -> None:
    path = build(tmp_path, "qwen2", "gguf:F32")
    run = compare(path, f"llamacpp:{path}", "--runtime-option", option)
    assert run.exit_code == 2
    assert said in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("other", ["ours", "llamacpp"])
def test_a_file_on_which_llama_cpp_aborts_is_a_finding_of_that_side(
    tmp_path: Path, compare: Compare, other: str
) -> None:
    contents = gguf_contents(model_spec("qwen2"))
    metadata = {key.replace("qwen2.", "qwen2vl."): value for key, value in contents.metadata.items()}
    metadata |= {"general.architecture": "qwen2vl", "qwen2vl.rope.dimension_sections": [64, 64, 64, 0]}
    path = tmp_path / "wide.gguf"
    write(replace(contents, metadata=metadata), path)
    sound = build(tmp_path, "qwen2", "gguf:F32")
    run = compare(sound if other == "ours" else f"llamacpp:{sound}", f"llamacpp:{path}", "--assert-match")
    assert run.exit_code == 1
    assert run.report["verdict"] == "divergent"
    finding, *others = run.report["findings"]
    assert all(other["latent"] for other in others)  # of what the files say, which nothing of this run shows
    assert (finding["kind"], finding["side"], finding["status"]) == ("runtime.crash", "right", "confirmed")
    assert "llama.cpp ended with SIGABRT: ops.cpp" in finding["message"]
    assert "GGML_ASSERT(sect_dims" in finding["actual"]
    assert "GGML_ASSERT(sect_dims" in run.stdout
    assert run.report["right"]["runtime"] == "llamacpp"


def test_a_missing_file_is_said_before_anything_runs(tmp_path: Path, compare: Compare) -> None:
    run = compare(f"llamacpp:{tmp_path / 'none.gguf'}", build(tmp_path, "qwen2", "gguf:F32"))
    assert run.exit_code == 2
    assert "none.gguf" in run.stderr


@pytest.mark.requires_llamacpp
@pytest.mark.requires_transformers
@pytest.mark.parametrize("name", ["qwen3moe", "lfm2moe", "granitehybrid"])
def test_experts_recurrence_and_settings_of_each_layer_match_in_the_runtimes(
    tmp_path: Path, compare: Compare, name: str
) -> None:
    folder = build_folder(tmp_path / "hf", RECIPES[name])
    path = write_canonical(tmp_path / "model.gguf", open_model(folder))
    for left, right in ((path, f"llamacpp:{path}"), (path, f"transformers:{folder}")):
        run = compare(left, right, "--tokens", "5,17,9,33,101,7,250", "--assert-match", "--strict")
        assert run.exit_code == 0, run.stdout
        assert (run.report["verdict"], run.report["findings"]) == ("match", [])


@pytest.mark.requires_llamacpp
@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("qwen2moe", "llamacpp"),  # the shared expert's gate is a stage of its own
        ("gemma4", "llamacpp"),  # GELU by its table gates the embeddings of each layer
        ("gemma4-moe", "llamacpp"),  # factors of the experts' results
        ("gemma4-moe", "transformers"),  # factors of the router's weights
        ("falcon-7b", "llamacpp"),  # GELU by its tanh approximation
        ("deepseek2-v3", "transformers"),  # adjacent pairs go in, halves come out
        ("falcon-h1", "transformers"),  # factors that a GGUF file has in its weights
        ("granite-swa", "transformers"),  # what a sink takes is taken from the context, not in the softmax
        ("laguna", "transformers"),  # the experts' sum is scaled, not their weights
        ("mimo2", "transformers"),  # values are scaled, not what the attention adds
        ("mimo2", "llamacpp"),  # that is scaled
        ("minicpm3", "transformers"),  # the final norm is scaled, not the logits
        ("mistral3", "transformers"),  # queries are scaled by position behind their rotation
        ("llama4-chunk", "transformers"),  # and where nothing is rotated
        ("nemotron_h", "transformers"),  # a converter turns rows that nothing rotates
        ("muse-glimmer", "transformers"),  # normed queries are scaled before their rotation
    ],
)
def test_what_a_runtime_computes_in_another_form_is_no_fault(
    tmp_path: Path, compare: Compare, name: str, runtime: str
) -> None:
    path = build_folder(tmp_path / "hf", RECIPES[name])
    if runtime == "llamacpp":
        path = write_canonical(tmp_path / "model.gguf", open_model(path))
    run = compare(path, f"{runtime}:{path}", "--tokens", "5,17,9,33,101,7,250", "--assert-match")
    assert run.exit_code == 0, run.stdout
    assert run.report["verdict"] in ("match", "drift")
    assert {finding["kind"] for finding in run.report["findings"]} <= {"runtime.precision"}
    assert not [stage for stage in run.report["stages"] if stage["status"] == "faulty"]


@pytest.mark.requires_llamacpp
@pytest.mark.requires_transformers
def test_queries_keys_and_values_convolved_each_by_itself_are_no_fault(
    tmp_path: Path, compare: Compare
) -> None:
    recipe = RECIPES["kimi-linear"]
    one_epsilon = {**recipe.arguments, "rms_norm_eps": 1e-6}  # llama.cpp knows no other for latent norms
    folder = build_folder(tmp_path / "hf", replace(recipe, arguments=one_epsilon))
    path = write_canonical(tmp_path / "model.gguf", open_model(folder))
    run = compare(path, f"llamacpp:{path}", "--tokens", "5,17,9,33,101,7,250", "--assert-match")
    assert (run.exit_code, run.report["findings"]) == (0, []), run.stdout
    status = {stage["name"]: stage["status"] for stage in run.report["stages"]}
    seen = ("q", "ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v", "ssm_scan", "ssm_norm", "attn_out")
    assert {status[f"layers.0.{op}"] for op in seen} == {"ok"}


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("stage", ["layers.1.q", "layers.1.ffn_up"])
def test_a_product_that_is_off_by_less_than_the_weights_were_rounded_by_is_seen(
    tmp_path: Path, compare: Compare, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """The file is the same on both sides: what its weights lost when they were quantised explains nothing."""
    path = build(tmp_path, "llama", "gguf:Q4_0")
    assert compare(path, f"llamacpp:{path}").report["verdict"] == "drift"
    own = live.capture

    def capture(request: live.Request, overwrite: Overwrite | None) -> Capture:
        run = own(request, overwrite)
        return Altered(run.facts, run, stage)

    monkeypatch.setattr(live, "capture", capture)
    run = compare(path, f"llamacpp:{path}", "--assert-match")
    assert run.exit_code == 1
    assert run.report["first_divergence"]["name"] == stage
    assert {finding["side"] for finding in run.report["findings"]} == {"right"}


@dataclass
class Altered:
    """A run of which one stage is a tenth larger than it was."""

    facts: Facts
    run: Capture
    stage: str

    def __iter__(self) -> Iterator[Stage]:
        for name, value in self.run:
            yield name, value * np.float32(1.1) if name == self.stage else value


@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    "scheme", [packing.fp8(), packing.packed_int(), packing.float8()], ids=["fp8", "int4", "float8"]
)
def test_a_packed_folder_in_torch_and_in_transformers_matches(
    tmp_path: Path, compare: Compare, scheme: packing.Scheme
) -> None:
    """By its library's own kernels, which need not multiply in float32."""
    pytest.importorskip("compressed_tensors")
    source = build(tmp_path / "source", tiny("llama", hidden=256, ffn=512), "hf:F32")
    folder = packing.quantised(source, tmp_path / "packed", scheme)
    run = compare(folder, f"transformers:{folder}", "--assert-match")
    assert run.exit_code == 0, run.stdout
    assert run.report["verdict"] in ("match", "drift")
    assert run.report["findings"] == []
