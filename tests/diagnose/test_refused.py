"""Keys for which llama.cpp refuses a file that can be computed: each is named, and llama.cpp does refuse it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import compared_files
from fixtures.oracles import transformers_logits
from fixtures.restating import restated
from rosetta.errors import DamagedFileError
from rosetta.model import open_model

RUN = "import sys; from fixtures.oracles import llamacpp_logits; llamacpp_logits(sys.argv[1], [5, 9])"
LATENT = [
    (
        "minicpm3",
        {"attention.head_count_kv": 3},
        "attention.head_count_kv",
        "write minicpm3.attention.head_count_kv 4",
    ),
    ("gpt2", {"context_length": 129}, "context_length", "write gpt2.context_length 128"),
    (
        "llama4",
        {"interleave_moe_layer_step": 1},
        "interleave_moe_layer_step",
        "write llama4.interleave_moe_layer_step 2",
    ),
    ("starcoder", {"context_length": 64}, "context_length", "write starcoder.context_length 128"),
    # recipe, what the file states, what the finding names, what is advised
    ("bloom", {"expert_used_count": 1}, "expert_used_count", "take bloom.expert_used_count out"),
    ("olmo2", {"expert_group_count": 1}, "expert_group_count", "take olmo2.expert_group_count out"),
    ("llama", {"nextn_predict_layers": 9}, "nextn_predict_layers", "take llama.nextn_predict_layers out"),
    (
        "cohere2moe",
        {"expert_shared_count": 0},
        "expert_shared_count",
        "write cohere2moe.expert_shared_count 1",
    ),
    (
        "cohere2moe",
        {"attention.layer_norm_epsilon": None},
        "attention.layer_norm_epsilon",
        "write cohere2moe.attention.layer_norm_epsilon 1e-05",
    ),
    (
        "minimax-m2",
        {"expert_gating_func": None},
        "expert_gating_func",
        "write minimax-m2.expert_gating_func 2",
    ),
    (
        "exaone-moe",
        {"expert_gating_func": None},
        "expert_gating_func",
        "write exaone-moe.expert_gating_func 2",
    ),
    (
        "minimax-m2",
        {"feed_forward_length": 97},
        "feed_forward_length",
        "write minimax-m2.feed_forward_length as the model has it",
    ),
    (
        "gemma4",
        {"rope.dimension_count_swa": None},
        "rope.dimension_count_swa",
        "write gemma4.rope.dimension_count_swa as the model has it",
    ),
]


@pytest.mark.requires_transformers
@pytest.mark.requires_llamacpp
@pytest.mark.sample(4)
@pytest.mark.parametrize(("recipe", "stated", "key", "advice"), LATENT, ids=lambda it: str(it)[:40])
def test_what_llama_cpp_refuses_is_a_latent_finding(
    tmp_path: Path, recipe: str, stated: dict[str, Any], key: str, advice: str
) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    planted = restated(file, tmp_path / "planted.gguf", stated)
    ran = [subprocess.run([sys.executable, "-c", RUN, path], capture_output=True) for path in (file, planted)]
    assert ran[0].returncode == 0 != ran[1].returncode
    report = compared_files(planted, file)
    assert report.verdict == "match"
    [found] = report.findings
    assert (found.key, found.latent, found.side) == (key, True, "left")
    assert "llama.cpp refuses the file" in found.message
    assert found.recommendation.startswith(advice)
    assert not compared_files(file, file).findings


@pytest.mark.requires_transformers
def test_other_positions_than_a_folder_has_rows_for_are_a_latent_finding(tmp_path: Path) -> None:
    folder, _ = tiny_pair(tmp_path, "gpt2")
    planted = restated(folder, tmp_path / "planted", {"n_positions": 129})
    with pytest.raises(RuntimeError, match="mismatch"):
        transformers_logits(planted, [5, 9])
    [found] = compared_files(planted, folder).findings
    assert (found.kind, found.key, found.latent) == ("config.context_length", "context_length", True)
    assert found.message.endswith("transformers refuses the file")
    assert found.recommendation.startswith("write n_positions 128 into ")
    assert not compared_files(folder, folder).findings


@pytest.mark.requires_transformers
def test_a_flag_for_a_pattern_is_refused(tmp_path: Path) -> None:
    _, file = tiny_pair(tmp_path, "cohere2")
    planted = restated(file, tmp_path / "planted.gguf", {"attention.sliding_window_pattern": True})
    with pytest.raises(DamagedFileError, match=r"cohere2\.attention\.sliding_window_pattern.*True"):
        open_model(planted)


@pytest.mark.requires_transformers
def test_predictors_that_no_layers_are_take_the_blame(tmp_path: Path) -> None:
    _, file = tiny_pair(tmp_path, "llama")
    planted = restated(file, tmp_path / "planted.gguf", {"nextn_predict_layers": 1})
    [found] = compared_files(planted, file).findings
    assert found.status == "confirmed"
    assert found.recommendation.startswith("take llama.nextn_predict_layers out of ")


@pytest.mark.requires_transformers
@pytest.mark.parametrize("key", ["xielu.beta", "xielu.eps"])
def test_a_number_of_apertus_that_is_missing_is_the_cause(tmp_path: Path, key: str) -> None:
    _, file = tiny_pair(tmp_path, "apertus")
    planted = restated(file, tmp_path / "planted.gguf", {key: None})
    findings = compared_files(planted, file).findings
    assert [(found.key, found.kind) for found in findings] == [(key, "config.activation")]
    assert findings[0].recommendation.startswith(f"write {key} ")


@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    "stated", [{"attention.key_length": 34}, {"attention.sliding_window_pattern": None}], ids=str
)
def test_layers_of_two_kinds_of_heads_are_compared_by_layer(tmp_path: Path, stated: dict[str, Any]) -> None:
    _, file = tiny_pair(tmp_path, "gemma4")
    planted = restated(file, tmp_path / "planted.gguf", stated)
    [key] = stated
    found = compared_files(planted, file).findings[0]
    assert (found.key, found.status) == (key, "confirmed")
    assert found.recommendation.startswith(f"write gemma4.{key} ")
