"""Whether GGUF can say a setting, and that the advice says so where it cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures import faults
from fixtures.architectures import build_tiny
from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import compared, compared_files, tiny
from fixtures.pairs import pair
from fixtures.restating import restated
from rosetta.architectures import find_architecture
from rosetta.diagnose.advice import write_value
from rosetta.diagnose.places import has_place
from rosetta.diagnose.stating import Stating
from rosetta.model import Model, build_model, open_model

NO_PLACE = "GGUF has no place for"


def without(model: Model, key: str) -> Model:
    """A model whose file does not state a key."""
    stating = Stating(model.container, {})
    stating.settings = {name: said for name, said in stating.settings.items() if name != key}
    return build_model(stating)


@pytest.mark.parametrize("believed", ["left", "right"])
def test_a_window_of_all_layers_has_no_place(tmp_path: Path, believed: Any) -> None:
    report = compared(
        tmp_path, "mistral", "hf:F16", "gguf:F16", faults.sliding_window(6), "left", reference=believed
    )
    [found] = [found for found in report.findings if found.kind == "config.sliding_window"]
    assert found.status == "confirmed"
    assert f"{NO_PLACE} sliding_window 6" in found.recommendation
    assert found.side != believed


def test_a_base_that_the_file_lacks_has_a_place(tmp_path: Path) -> None:
    folder, file = map(open_model, pair(tmp_path, tiny("qwen2", theta=5e5), "hf:F16", "gguf:F16"))
    assert has_place(without(file, "rope.freq_base"), "rope.freq_base", 5e5, folder)


@pytest.mark.parametrize(
    ("name", "read"), [("qwen3moe", False), ("mixtral", False), ("olmoe", False), ("glm4moe", True)]
)
def test_normalising_has_a_place_where_llama_cpp_reads_it(tmp_path: Path, name: str, read: bool) -> None:
    """By src/models/*.cpp: who asks for LLM_KV_EXPERT_WEIGHTS_NORM."""
    architecture = find_architecture(name)
    assert architecture is not None
    assert architecture.llamacpp.computes_by("expert_weights_norm") is read


def test_a_key_that_is_not_read_has_no_place(tmp_path: Path) -> None:
    folder, file = map(open_model, pair(tmp_path, tiny("qwen2", theta=5e5), "hf:F16", "gguf:F16"))
    lacking = without(file, "rope.freq_base")
    llamacpp = replace(file.architecture.llamacpp, unread=frozenset({"rope.freq_base"}))
    deaf = replace(lacking, architecture=replace(file.architecture, llamacpp=llamacpp))
    assert not has_place(deaf, "rope.freq_base", 5e5, folder)


def test_a_scale_of_the_scores_has_a_place_in_granite_alone(tmp_path: Path) -> None:
    folder, file = map(open_model, pair(tmp_path, tiny("llama"), "hf:F16", "gguf:F16"))
    assert not has_place(file, "attention.scale", 0.5, folder)
    granite = find_architecture("granite")
    assert granite is not None
    assert has_place(replace(file, architecture=granite), "attention.scale", 0.5, folder)


@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    ("recipe", "of_file", "key"),
    [
        ("gpt-oss-untruncated", "gpt-oss-untruncated", "rope_parameters.truncate false"),
        ("granite-swa-bases", "granite-swa", "layer_rope_theta [0, 10000.0, 500000.0, 10000.0]"),
    ],
)
def test_what_a_key_that_is_stated_cannot_say_has_no_place(
    tmp_path: Path, recipe: str, of_file: str, key: str
) -> None:
    """llama.cpp truncates YaRN's bounds, and has one base for all layers."""
    folder = build_tiny(tmp_path / "folder", recipe)
    _, file = tiny_pair(tmp_path, of_file)
    advice = [found.recommendation for found in compared_files(folder, file).findings]
    assert any(f"{NO_PLACE} {key}: a file of" in text for text in advice), advice


@pytest.mark.requires_transformers
def test_another_factor_of_a_scaling_that_is_stated_has_a_place(tmp_path: Path) -> None:
    folder, file = tiny_pair(tmp_path, "llama-rope-yarn")
    other = restated(file, tmp_path / "other.gguf", {"rope.scaling.factor": 8.0})
    (found,) = compared_files(folder, other).findings
    assert found.kind == "config.rope_scaling"
    assert NO_PLACE not in found.recommendation
    assert "write rope_parameters.factor 8.0 into" in found.recommendation


@pytest.mark.requires_transformers
def test_llama_3s_rule_is_found_again_where_the_base_was_lost_with_it(tmp_path: Path) -> None:
    """transformers 5 keeps both in one table; the GGUF file has the factors alone."""
    folder, file = tiny_pair(tmp_path, "llama-rope-llama3")
    stated = json.loads((folder / "config.json").read_text())["rope_parameters"]
    lost = restated(folder, tmp_path / "lost", {"rope_parameters": None, "rope_theta": 77.0})
    advice = " ".join(found.recommendation for found in compared_files(lost, file).findings)
    table = json.dumps({key: said for key, said in stated.items() if key != "rope_theta"}, sort_keys=True)
    said = json.loads(advice[advice.index("{") : advice.index("}") + 1])
    assert json.dumps(said, sort_keys=True) == table
    assert f"{lost}/config.json" in advice


@pytest.mark.requires_transformers
def test_a_key_of_gguf_has_its_architecture_before_it(tmp_path: Path) -> None:
    folder, file = tiny_pair(tmp_path, "gemma2")
    lost = restated(file, tmp_path / "lost.gguf", {"attn_logit_softcapping": None})
    other = restated(folder, tmp_path / "other", {"attn_logit_softcapping": 3.0})
    (found,) = compared_files(lost, other).findings
    assert found.recommendation.startswith("write gemma2.attn_logit_softcapping 3 into the GGUF file")


@pytest.mark.requires_transformers
def test_a_window_of_some_layers_has_no_place_in_a_file_without_windows(tmp_path: Path) -> None:
    folder, file = tiny_pair(tmp_path, "qwen2")
    switched = {"use_sliding_window": True, "sliding_window": 4, "layer_types": None, "max_window_layers": 1}
    (found,) = compared_files(file, restated(folder, tmp_path / "other", switched)).findings
    assert found.kind == "config.layer_pattern"
    assert f"{NO_PLACE} sliding_window 4" in found.recommendation


def test_a_key_that_no_class_reads_is_not_advised(tmp_path: Path) -> None:
    """transformers' Kimi Linear has a number of its own for the norm of queries and keys, and llama.cpp the norms'."""
    pytest.importorskip("transformers")
    folder, file = map(open_model, tiny_pair(tmp_path, "kimi-linear"))
    own = folder.config["ssm.l2_epsilon"]
    advice = write_value(folder, file, "ssm.l2_epsilon", own, 1e-5)
    assert advice.startswith("nothing can be written") or NO_PLACE in advice
    assert "config.json" not in advice
