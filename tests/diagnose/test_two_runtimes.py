"""Two runtimes held to each other, none of ours between them: what both compute, and where they first do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures import build, faults, pair
from fixtures.architectures import RECIPES
from fixtures.canonical_gguf import write_canonical
from fixtures.faults import Fault
from fixtures.recipes import build_folder
from rosetta import architectures
from rosetta.model import open_model
from rosetta.tensor_factors import Multiplied
from tests.conftest import Compare

pytestmark = [pytest.mark.requires_llamacpp, pytest.mark.requires_transformers]
TOKENS = ("--tokens", "5,17,9,33,101,7,250")


@pytest.mark.sample(4)
@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("swapped", [False, True])
def test_two_runtimes_of_one_model_are_told_to_compute_the_same(
    tmp_path: Path, compare: Compare, architecture: str, swapped: bool
) -> None:
    folder, path = build(tmp_path, architecture, "hf:F32"), build(tmp_path, architecture, "gguf:F32")
    operands = [f"transformers:{folder}", f"llamacpp:{path}"]
    run = compare(*(operands[::-1] if swapped else operands), *TOKENS, "--assert-match")
    assert run.exit_code == 0, run.stdout
    # llama.cpp reads GELU from a table, which the prediction allows for
    assert run.report["verdict"] == ("drift" if architecture == "gpt2" else "match"), run.stdout
    assert run.report["findings"] == []
    assert run.report["compared"]["stages"] == (29 if architecture == "gpt2" else 35)


@pytest.mark.parametrize("recipe", ["qwen3moe", "gemma2", "gptneox"])
def test_experts_windows_softcaps_and_parallel_blocks(tmp_path: Path, compare: Compare, recipe: str) -> None:
    folder = build_folder(tmp_path / "hf", RECIPES[recipe])
    path = tmp_path / "model.gguf"
    write_canonical(path, open_model(folder))
    run = compare(f"transformers:{folder}", f"llamacpp:{path}", *TOKENS, "--assert-match")
    assert run.exit_code == 0, run.stdout
    assert run.report["findings"] == []
    assert [s["name"] for s in run.report["stages"] if s["status"] == "skipped"] == []


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("fault", "stages", "kind"),
    [
        (lambda: faults.norm_epsilon(1e-3), {"attn_norm", "ffn_norm", "final_norm"}, "config.norm_epsilon"),
        (lambda: faults.rope_theta(500.0), {"q_rope", "k_rope"}, "config.rope_theta"),
        (lambda: faults.scaled("blk.1.ffn_up.weight", 1.01), {"ffn_up"}, "value.scaled"),
        (lambda: faults.zeroed("blk.1.attn_v.bias"), {"v"}, "value.zeroed"),
    ],
    ids=["epsilon", "theta", "factor", "zeros"],
)
@pytest.mark.parametrize("subject", ["transformers", "llamacpp"])
def test_only_the_stages_that_are_computed_otherwise_are_faulty(
    tmp_path: Path, compare: Compare, fault: Callable[[], Fault], stages: set[str], kind: str, subject: str
) -> None:
    folder, path = build(tmp_path, "qwen2", "hf:F32"), build(tmp_path, "qwen2", "gguf:F32", fault())
    operands = {"transformers": f"transformers:{folder}", "llamacpp": f"llamacpp:{path}"}
    other = next(name for name in operands if name != subject)
    run = compare(operands[subject], operands[other], *TOKENS, "--assert-match")
    assert run.exit_code == 1, run.stdout
    faulty = {s["name"].rpartition(".")[2] for s in run.report["stages"] if s["status"] == "faulty"}
    assert faulty == stages
    assert run.report["first_divergence"]["op"] in stages
    shown = [f for f in run.report["findings"] if not f["latent"]]
    files = f"{operands[subject].partition(':')[2]} with {operands[other].partition(':')[2]}: divergent"
    assert any(files in note for note in run.report["notes"]), (
        "the files differ, and neither runtime from its own"
    )
    assert sum(note.count(": match") for note in run.report["notes"]) == 2
    status = "confirmed"
    if kind == "value.zeroed" and subject == "transformers":
        # Of zeros that are believed, the bias is at fault; all of it would be taken from there, which proves nothing.
        kind, status = "value.other_weights", "suspected"
        assert shown[0]["tensor"] == "blk.1.attn_v.bias"
    assert {(f["kind"], f["status"]) for f in shown} == {(kind, status)}


def test_a_runtime_that_differs_from_its_file_is_accused_and_the_files_are_not(
    tmp_path: Path, compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rosetta.runtimes.transformers import session

    own = session._load

    def load(path: Path, dtype: Any) -> Any:
        model = own(path, dtype)
        for module in model.modules():
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon = 1e-3
        return model

    monkeypatch.setattr(session, "_load", load)
    folder, path = build(tmp_path, "qwen2", "hf:F32"), build(tmp_path, "qwen2", "gguf:F32")
    run = compare(f"transformers:{folder}", f"llamacpp:{path}", *TOKENS, "--assert-match")
    assert run.exit_code == 1, run.stdout
    (finding,) = run.report["findings"]
    told = finding["kind"], finding["side"], finding["status"], finding["actual"]
    assert told == ("config.norm_epsilon", "left", "confirmed", pytest.approx(1e-3, rel=0.05))
    assert "mend it in transformers" in finding["recommendation"]
    assert any(f"{folder} with {path}: match" in note for note in run.report["notes"])


def test_a_fault_at_a_stage_that_a_runtime_does_not_show_is_no_drift_behind_it(
    tmp_path: Path, compare: Compare
) -> None:
    """Queries that grow with their position in the folder alone, where llama.cpp shows none that are turned."""
    folder, path = build_folder(tmp_path / "hf", RECIPES["mistral4-beta"]), tmp_path / "model.gguf"
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        config.replace('"llama_4_scaling_beta": 0.1', '"llama_4_scaling_beta": 0.0')
    )
    write_canonical(path, open_model(folder))
    (folder / "config.json").write_text(config)
    tokens = ("--tokens", ",".join(map(str, range(5, 25))))
    run = compare(f"transformers:{folder}", f"llamacpp:{path}", *tokens, "--assert-match")
    assert run.exit_code == 1, run.stdout
    assert {s["op"] for s in run.report["stages"] if s["status"] == "faulty"} == {"attn_scores"}
    assert {f["kind"] for f in run.report["findings"]} == {"config.attention_temperature"}


def test_what_a_latent_cause_explains_is_no_finding_of_its_own(tmp_path: Path, compare: Compare) -> None:
    """llama.cpp computes the norms of Qwen2-VL with an epsilon of 0: each shows it, none over the threshold."""
    folder, path = build_folder(tmp_path / "hf", RECIPES["qwen2vl"]), tmp_path / "model.gguf"
    write_canonical(path, open_model(folder))
    run = compare(
        f"transformers:{folder}", f"llamacpp:{path}", "--tokens", "5,17,9,33,101,7,250,12,13,44,3,8"
    )
    assert run.report["verdict"] == "match"
    assert len([stage for stage in run.report["stages"] if stage["status"] == "faulty"]) > 1
    assert [(f["kind"], f["latent"]) for f in run.report["findings"]] == [("config.norm_epsilon", True)]


@pytest.mark.parametrize("dtype", ["F16", "Q8_0", "Q4_K_M"])
def test_what_the_dtypes_explain_is_drift(tmp_path: Path, compare: Compare, dtype: str) -> None:
    folder, path = build(tmp_path, "qwen2", "hf:F32"), build(tmp_path, "qwen2", f"gguf:{dtype}")
    run = compare(f"transformers:{folder}", f"llamacpp:{path}", *TOKENS, "--assert-match")
    assert run.exit_code == 0, run.stdout
    assert run.report["verdict"] in ("drift", "match")
    assert run.report["findings"] == []


def test_an_unknown_option_is_one_sentence(tmp_path: Path, compare: Compare) -> None:
    folder, path = build(tmp_path, "qwen2", "hf:F32"), build(tmp_path, "qwen2", "gguf:F32")
    run = compare(f"transformers:{folder}", f"llamacpp:{path}", "--runtime-option", "speed=on")
    assert run.exit_code == 2
    assert "no runtime at hand has an option 'speed'" in run.stderr


@pytest.mark.parametrize("reference", ["left", "right"])
def test_zeros_that_a_runtime_read_from_its_file_are_that_files(
    tmp_path: Path, compare: Compare, reference: str
) -> None:
    """Whichever side is believed: what is held to the run of that file does without nothing."""
    zeros = faults.zeroed("blk.1.ffn_down.weight")
    left, right = pair(tmp_path, "llama", "hf:F32", "gguf:F32", zeros, side="right")
    run = compare(left, f"llamacpp:{right}", *TOKENS, "--reference", reference, "--assert-match")
    assert run.exit_code == 1
    (found,) = run.report["findings"]
    assert (found["kind"], found["side"], found["status"]) == ("value.zeroed", "right", "confirmed")
    assert (found["tensor"], run.report["first_divergence"]["name"]) == (
        "blk.1.ffn_down.weight",
        "layers.1.ffn_out",
    )


@pytest.fixture
def no_architectures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """From when it is called on, rosetta knows no architecture."""

    def forget() -> None:
        monkeypatch.setattr(architectures, "_of_module", lambda name: [])
        architectures.all_architectures.cache_clear()

    yield forget
    architectures.all_architectures.cache_clear()


def test_rows_that_nothing_turns_are_in_one_order_behind_an_earlier_fault_too(
    tmp_path: Path, compare: Compare, no_architectures: Callable[[], None]
) -> None:
    """llama.cpp's converter moves the rows of Granite's queries whether or not they are rotated: whether it did is told
    by queries that the fault has made others."""
    folder = build_folder(tmp_path / "hf", RECIPES["granitehybrid"])
    model = open_model(folder)

    def louder(found: Any) -> Any:
        return replace(found, values_edits=(*found.values_edits, Multiplied(1.5)))

    path = tmp_path / "model.gguf"
    write_canonical(path, model.repaired(patches={"blk.1.ssm_out.weight": louder}))
    no_architectures()
    run = compare(f"transformers:{folder}", f"llamacpp:{path}", *TOKENS)
    assert [s["name"] for s in run.report["stages"] if s["status"] == "faulty"] == ["layers.1.ssm_out"]
    (found,) = run.report["findings"]
    assert (found["kind"], found["tensor"], found["status"]) == (
        "value.scaled",
        "blk.1.ssm_out.weight",
        "confirmed",
    )
