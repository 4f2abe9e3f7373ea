"""Variants that no recipe has, by the class's own keys: held to transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from fixtures.architectures import RECIPES
from fixtures.canonical_gguf import write_canonical
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_logits, transformers_logits
from fixtures.recipes import build_folder
from fixtures.restating import restated, with_tensors
from rosetta.api import trace
from rosetta.compare.options import Options
from rosetta.convert import convert
from rosetta.errors import UnsupportedError
from rosetta.model import open_model

pytestmark = pytest.mark.requires_transformers
IDS = [17, 10, 17, 28, 300, 5, 63, 299]


ATTENTION = {"alibi": True, "attn_pdrop": 0, "qk_ln": False, "softmax_scale": 0.1}
CASES = {  # recipe, other arguments of its class
    "starcoder-heads-of-their-own": ("starcoder", {"multi_query": False}),
    "mpt-softmax-scale": ("mpt", {"attn_config": ATTENTION}),
    "nemotron-h-mlp-bias": ("nemotron_h", {"mlp_bias": True}),
    "falcon-relu": ("falcon-7b", {"activation": "relu"}),
    "kimi-linear-own-heads": ("kimi-linear", {"linear_num_heads": 3, "linear_head_dim": 24}),
    "falcon-gelu-tanh": ("falcon-40b", {"activation": "gelu_pytorch_tanh"}),
}


@pytest.mark.parametrize("case", CASES)
def test_variant_is_computed_as_its_class_does(tmp_path: Path, case: str) -> None:
    name, changes = CASES[case]
    recipe = RECIPES[name]
    varied = replace(recipe, arguments={**recipe.arguments, **changes})
    folder, plain = build_folder(tmp_path / "hf", varied), build_folder(tmp_path / "plain", recipe)
    theirs = transformers_logits(folder, IDS)
    assert np.abs(theirs - transformers_logits(plain, IDS)).max() > 1e-4  # the variant shows
    ours = trace(folder, tokens=IDS)["logits"].numpy()
    assert np.abs(ours - theirs).max() < 1e-4 * max(1.0, float(np.abs(theirs).max()))


def test_heads_of_delta_attention_that_a_gguf_cannot_count_are_named(tmp_path: Path) -> None:
    """Llama.cpp has one count of heads for both kinds of Kimi Linear's layers."""
    recipe = RECIPES["kimi-linear"]
    own = replace(recipe, arguments={**recipe.arguments, "linear_num_heads": 3})
    folder, path = build_folder(tmp_path / "hf", own), tmp_path / "model.gguf"
    convert(str(folder), path, Options(), verify=False)
    report = compared_files(path, folder, tokens=tuple(IDS))
    first = report.findings[0]
    assert (first.kind, first.key, first.status) == ("config.state_size", "kda.head_count", "confirmed")
    assert "GGUF has no place for linear_num_heads 3" in first.recommendation
    assert {finding.kind for finding in report.findings[1:]} == {"config.norm_epsilon"}  # of code alone


def test_a_size_of_heads_that_turns_alone_is_heeded_by_the_rotation_alone(tmp_path: Path) -> None:
    """GPT-NeoX's heads are what their count leaves of the width; its rotary part asks for `head_dim` all the same."""
    folder = restated(build_folder(tmp_path / "hf", RECIPES["gptneox"]), tmp_path / "own", {"head_dim": 40})
    theirs, ours = transformers_logits(folder, IDS), trace(folder, tokens=IDS)["logits"].numpy()
    assert open_model(folder)["rope.dimension_count"] == 10
    assert np.abs(ours - theirs).max() < 1e-4 * max(1.0, float(np.abs(theirs).max()))


PUBLISHED = {  # recipe, other arguments, keys that its checkpoints have instead of those that transformers saves
    "bloom": ("bloom", {"hidden_size": 32}, {"hidden_size": "n_embed", "n_head": "num_attention_heads"}),
    "falcon": ("falcon-7b", {"hidden_size": 32}, {"hidden_size": "n_embed"}),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_keys_of_published_checkpoints_are_read_as_its_class_does(tmp_path: Path, case: str) -> None:
    name, changes, own = PUBLISHED[case]
    recipe = RECIPES[name]
    plain = build_folder(tmp_path / "plain", replace(recipe, arguments={**recipe.arguments, **changes}))
    config = json.loads((plain / "config.json").read_text("utf-8"))
    said = dict.fromkeys(own) | {theirs: config[key] for key, theirs in own.items()}
    folder = restated(plain, tmp_path / "hf", said)
    theirs = transformers_logits(folder, IDS)
    assert np.abs(theirs - transformers_logits(plain, IDS)).max() == 0
    ours = trace(folder, tokens=IDS)["logits"].numpy()
    assert np.abs(ours - theirs).max() < 1e-4 * max(1.0, float(np.abs(theirs).max()))
    assert open_model(folder).unheeded == ()


SAYS_ANYWAY = {  # recipe: a key of its checkpoints that the class does not read, and what it computes anyway
    "qwen35": ("attn_output_gate", True),
    "minimax-m2": ("layernorm_mlp_beta", 1.0),
    "granitehybrid": ("normalization_function", "rmsnorm"),
    "lfm2": ("use_pos_enc", True),
    "deepseek2-v3": ("topk_method", "noaux_tc"),
    "jamba": ("mamba_inner_layernorms", True),
}


@pytest.mark.parametrize("name", SAYS_ANYWAY)
def test_a_key_that_the_class_does_not_read_is_noted_where_it_says_something_else(
    tmp_path: Path, name: str
) -> None:
    key, computed = SAYS_ANYWAY[name]
    folder = build_folder(tmp_path / "hf", RECIPES[name])
    plain = transformers_logits(folder, IDS)
    for value, noted in ((computed, []), ("another", [key])):
        stated = restated(folder, tmp_path / str(value), {key: value})
        assert np.array_equal(transformers_logits(stated, IDS), plain)
        assert [setting.key.rpartition(".")[2] for setting in open_model(stated).unheeded] == noted


def without_head(folder: Path) -> Path:
    """A folder whose head is taken out."""
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("name", ["lfm2", "lfm2moe"])
def test_a_head_is_tied_by_the_key_of_its_class(tmp_path: Path, name: str) -> None:
    """LFM2's checkpoints have `tie_embedding`, and the class takes it before `tie_word_embeddings`."""
    recipe = RECIPES[name]
    untied = replace(recipe, arguments={**recipe.arguments, "tie_word_embeddings": False})
    plain = build_folder(tmp_path / "plain", untied)
    folder = without_head(restated(plain, tmp_path / "hf", {"tie_embedding": True}))
    theirs = transformers_logits(folder, IDS)
    assert np.abs(theirs - transformers_logits(plain, IDS)).max() > 1e-2
    ours = trace(folder, tokens=IDS)["logits"].numpy()
    assert np.abs(ours - theirs).max() < 1e-4 * max(1.0, float(np.abs(theirs).max()))
    assert open_model(folder).config["tied_embeddings"].key == "tie_embedding"


@pytest.mark.parametrize("name", ["gpt-oss", "laguna", "mistral3", "mistral4"])
def test_a_folder_without_a_table_of_the_rotation_is_scaled_as_its_class_does(
    tmp_path: Path, name: str
) -> None:
    plain = build_folder(tmp_path / "plain", RECIPES[name])
    folder = restated(plain, tmp_path / "hf", {"rope_parameters": None})
    theirs = transformers_logits(folder, IDS)
    assert np.abs(theirs - transformers_logits(plain, IDS)).max() > 1e-2
    ours = trace(folder, tokens=IDS)["logits"].numpy()
    assert np.abs(ours - theirs).max() < 1e-4 * max(1.0, float(np.abs(theirs).max()))
    assert "config.rope_scaling" in {
        found.kind for found in compared_files(folder, plain, tokens=tuple(IDS)).findings
    }


@pytest.mark.parametrize(("key", "stated"), [("alibi", False), ("alibi_bias_max", 4)])
def test_mpt_falls_off_as_its_class_has_it_whatever_is_stated(tmp_path: Path, key: str, stated: int) -> None:
    plain = build_folder(tmp_path / "plain", RECIPES["mpt"])
    folder = restated(plain, tmp_path / "hf", {f"attn_config.{key}": stated})
    assert np.array_equal(transformers_logits(folder, IDS), transformers_logits(plain, IDS))
    report = compared_files(folder, plain, tokens=tuple(IDS))
    assert (report.verdict, report.findings) == ("match", [])
    assert any(f"attn_config.{key} {stated}, which mpt does not compute" in note for note in report.notes)


def test_heads_of_cohere2_are_as_large_as_its_class_makes_them(tmp_path: Path) -> None:
    plain = build_folder(tmp_path / "plain", RECIPES["cohere2"])
    folder = restated(plain, tmp_path / "hf", {"head_dim": None})
    ours = trace(folder, tokens=IDS)["logits"].numpy()
    assert np.abs(ours - transformers_logits(plain, IDS)).max() < 1e-4


@pytest.mark.requires_llamacpp
def test_values_of_minicpm3_are_as_wide_as_its_gguf_says(tmp_path: Path) -> None:
    recipe = replace(RECIPES["minicpm3"], arguments={**RECIPES["minicpm3"].arguments, "v_head_dim": 24})
    folder = build_folder(tmp_path / "hf", recipe)
    file = write_canonical(tmp_path / "model.gguf", open_model(folder))
    report = compared_files(file, folder, tokens=tuple(IDS))
    assert (report.verdict, report.findings) == ("match", [])
    ours = trace(file, tokens=IDS)["logits"].numpy()
    np.testing.assert_allclose(ours, llamacpp_logits(file, IDS), atol=1e-4)


@pytest.mark.parametrize(
    "stated",
    [
        {"no_rope_layers": [0, 1, 1, 1]},
        {"layer_types": ["full_attention", *["chunked_attention"] * 3]},
        {"layer_types": None},
    ],
    ids=lambda stated: next(iter(stated)),
)
def test_llama4_sees_chunks_in_the_layers_that_are_said_to_and_turns_others(
    tmp_path: Path, stated: dict[str, Any]
) -> None:
    plain = build_folder(tmp_path / "plain", RECIPES["llama4-chunk"])
    ids = [*IDS, *IDS]
    folder = restated(plain, tmp_path / "hf", stated)
    ours = trace(folder, tokens=ids)["logits"].numpy()
    assert np.abs(ours - transformers_logits(folder, ids)).max() < 1e-4
    report = compared_files(folder, plain, tokens=tuple(ids))
    assert {f.status for f in report.findings} <= {"confirmed"}
    assert (report.verdict == "match") == (stated == {"layer_types": None})


def test_a_rotated_part_that_is_not_stated_is_the_class_s_own(tmp_path: Path) -> None:
    """Not `head_dim`, which transformers saves beside it: it takes 64, and finds weights of other sizes."""
    plain = build_folder(tmp_path / "plain", RECIPES["deepseek2-v2"])
    folder = restated(plain, tmp_path / "hf", {"qk_rope_head_dim": None})
    with pytest.raises(RuntimeError, match="mismatch"):
        transformers_logits(folder, IDS)
    report = compared_files(folder, plain, tokens=tuple(IDS))
    assert report.verdict == "divergent"
    assert "config.rope_dimensions" in {found.kind for found in report.findings}


def test_a_whole_table_of_the_rotation_that_is_lost_is_explained(tmp_path: Path) -> None:
    """Four settings of one stage at once: the base, the factors, and by how much and where queries grow."""
    recipe = RECIPES["mistral4-beta"]
    others = {"rope_theta": 25000.0, "llama_4_scaling_beta": 0.3}
    table = {**recipe.arguments["rope_parameters"], **others}
    plain = build_folder(
        tmp_path / "plain", replace(recipe, arguments={**recipe.arguments, "rope_parameters": table})
    )
    folder = restated(plain, tmp_path / "hf", {"rope_parameters": None})
    report = compared_files(folder, plain, tokens=(*IDS, *IDS))
    assert sorted((found.kind, found.status) for found in report.findings) == [
        ("config.attention_temperature", "confirmed"),
        ("config.attention_temperature", "confirmed"),
        ("config.rope_scaling", "confirmed"),
        ("config.rope_theta", "confirmed"),
    ]


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("stem", ["ffn.act.scales", "attn_q_norm.weight"])
def test_tensors_of_mpt_that_llamacpp_alone_runs_are_refused(tmp_path: Path, stem: str) -> None:
    folder = build_folder(tmp_path / "hf", RECIPES["mpt"])
    file = write_canonical(tmp_path / "model.gguf", open_model(folder))
    width = 256 if stem.startswith("ffn") else 64
    more = {f"blk.{n}.{stem}": np.full(width, 2, np.float32) for n in range(3)}
    planted = with_tensors(file, tmp_path / "planted.gguf", more)
    if stem.startswith("ffn"):  # with the norms it ends with an assertion
        assert np.abs(llamacpp_logits(planted, IDS) - llamacpp_logits(file, IDS)).max() > 0.1
    with pytest.raises(UnsupportedError, match=rf"blk\.0\.{stem}"):
        open_model(planted)


def test_norms_of_heads_of_phi_are_refused(tmp_path: Path) -> None:
    recipe = RECIPES["phi2"]
    folder = build_folder(
        tmp_path / "hf", replace(recipe, arguments={**recipe.arguments, "qk_layernorm": True})
    )
    with pytest.raises(UnsupportedError, match="qk_layernorm is True, and phi2 is run with False alone"):
        open_model(folder)
