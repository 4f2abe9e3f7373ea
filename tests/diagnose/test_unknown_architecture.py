"""Runs of architectures that rosetta does not know: what a file's weights alone make is held to the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures.architectures import RECIPES
from fixtures.canonical_gguf import write_canonical
from fixtures.recipes import Recipe, build_folder
from rosetta.architectures import find_architecture
from rosetta.model import Model, open_model
from tests.conftest import Compare

pytestmark = [pytest.mark.requires_llamacpp, pytest.mark.requires_transformers]
TOKENS = ("--tokens", "5,17,9,33,101,7,250")
LIKE_LLAMA = "deci"  # llama.cpp computes it as it does llama
YOUTU = Recipe(
    "YoutuConfig",
    arguments={
        "q_lora_rank": 32,
        "kv_lora_rank": 32,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "num_key_value_heads": 4,
    },
)
MADE = (
    "attn_norm",
    "q",
    "k",
    "v",
    "attn_out",
    "attn_residual",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_out",
    "residual",
)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(build_folder(tmp_path_factory.mktemp("unknown") / "hf", RECIPES["llama"]))


def as_unknown(path: Path, model: Model) -> Path:
    """A GGUF file of the model under a name that rosetta does not know."""
    assert find_architecture(LIKE_LLAMA) is None
    return write_canonical(path, replace(model, architecture=replace(model.architecture, gguf=LIKE_LLAMA)))


def scaled(model: Model, name: str, factor: float) -> Model:
    from rosetta.tensor_factors import Multiplied

    def patch(found: Any) -> Any:
        return replace(found, values_edits=(*found.values_edits, Multiplied(factor)))

    return model.repaired(patches={name: patch})


@pytest.mark.parametrize("dtype", ["F32", "Q8_0", "Q4_K_M"])
def test_a_run_of_llama_cpp_is_held_to_the_weights_of_its_file(
    tmp_path: Path, compare: Compare, llama: Model, dtype: str
) -> None:
    path = as_unknown(tmp_path / "F32.gguf", llama)
    if dtype != "F32":
        from llama_cpp import llama_model_quantize, llama_model_quantize_default_params

        asked, made = llama_model_quantize_default_params(), tmp_path / "quantised.gguf"
        asked.ftype, asked.nthread = {"Q8_0": 7, "Q4_K_M": 15}[dtype], 1
        assert llama_model_quantize(str(path).encode(), str(made).encode(), asked) == 0
        path = made
    run = compare(path, f"llamacpp:{path}", *TOKENS, "--assert-match")
    assert run.exit_code == 0, run.stdout
    assert run.report["findings"] == []
    computed = {s["name"] for s in run.report["stages"] if s["max_diff"] is not None}
    layers = {f"layers.{n}.{op}" for n in range(3) for op in MADE}
    assert computed == {"embedding", *layers, "final_norm", "logits"}
    (said,) = (note for note in run.report["notes"] if "is none that rosetta runs" in note)
    assert f"{len(computed)} of {len(run.report['stages']) - 1} stages" in said


def test_a_file_that_is_not_the_one_that_was_run_is_named(
    tmp_path: Path, compare: Compare, llama: Model
) -> None:
    path = as_unknown(tmp_path / "model.gguf", llama)
    other = as_unknown(tmp_path / "other.gguf", scaled(llama, "blk.1.ffn_down.weight", 1.5))
    run = compare(other, f"llamacpp:{path}", *TOKENS, "--assert-match")
    assert run.exit_code == 1, run.stdout
    (finding,) = run.report["findings"]
    assert (finding["kind"], finding["side"], finding["status"]) == ("value.scaled", "left", "confirmed")
    assert finding["tensor"] == "blk.1.ffn_down.weight"
    assert run.report["first_divergence"]["name"] == "layers.1.ffn_out"


def test_where_each_runtime_computes_as_its_file_says_the_files_differ(
    tmp_path: Path, compare: Compare, llama: Model
) -> None:
    folder = llama.container.path
    other = as_unknown(tmp_path / "other.gguf", scaled(llama, "blk.1.ffn_down.weight", 1.5))
    run = compare(f"transformers:{folder}", f"llamacpp:{other}", *TOKENS, "--assert-match")
    assert run.exit_code == 1, run.stdout
    (finding,) = run.report["findings"]
    assert (finding["kind"], finding["status"]) == ("value.scaled", "confirmed")
    assert finding["tensor"] == "blk.1.ffn_down.weight"
    assert sum(note.count(": match") for note in run.report["notes"]) == 2


def epsilon(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-2


def larger_projection(model: Any) -> None:
    model.model.layers[1].self_attn.o_proj.weight.data *= 1.3


@pytest.mark.parametrize(
    ("change", "kind", "about"),
    [
        (None, None, None),
        (epsilon, "config.norm_epsilon", "attention.layer_norm_rms_epsilon"),
        (larger_projection, "value.scaled", "blk.1.attn_output.weight"),
    ],
    ids=["plain", "epsilon", "projection"],
)
def test_a_run_of_transformers_is_held_to_its_folder(
    tmp_path: Path,
    compare: Compare,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any], None] | None,
    kind: str | None,
    about: str | None,
) -> None:
    from rosetta.runtimes.transformers import session

    folder, own = build_folder(tmp_path / "hf", YOUTU), session._load

    def load(path: Path, dtype: Any) -> Any:
        model = own(path, dtype)
        if change is not None:
            change(model)
        return model

    monkeypatch.setattr(session, "_load", load)
    run = compare(folder, f"transformers:{folder}", *TOKENS, "--assert-match")
    assert run.exit_code == (0 if kind is None else 1), run.stdout
    assert [(f["kind"], f["side"], f["status"]) for f in run.report["findings"]] == (
        [] if kind is None else [(kind, "right", "confirmed")]
    )
    assert {f["key"] or f["tensor"] for f in run.report["findings"]} == ({about} if about else set())
    assert run.report["compared"]["stages"] == 36
