"""Keys of rope scaling that a GGUF has beside each other, or beside tensors of factors: computed as llama.cpp does, and
the key that makes it another is the one that is to be put right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_logits
from fixtures.restating import restated
from rosetta.api import trace
from rosetta.errors import DamagedFileError, UnsupportedError
from rosetta.model import open_model

pytestmark = [pytest.mark.requires_transformers, pytest.mark.requires_llamacpp]
IDS = [17, 10, 17, 28, 300, 5, 63, 299, 128, 31, 31, 7]
FACTOR, MAGNITUDE = "rope.scaling.factor", "rope.scaling.attn_factor"
ORIGINAL = "rope.scaling.original_context_length"
MULTIPLIER = "rope.scaling.yarn_log_multiplier"
CASES: list[tuple[str, str, Any, str]] = [  # recipe, key, value (None: taken out), what is to be done
    ("llama", MAGNITUDE, 1.5, "take llama.rope.scaling.attn_factor out of"),
    ("llama", "rope.scale_linear", 4.0, "take llama.rope.scale_linear out of"),
    ("llama-rope-llama3", FACTOR, 4.0, "take llama.rope.scaling.factor out of"),
    ("llama-rope-llama3", MAGNITUDE, 1.5, "take llama.rope.scaling.attn_factor out of"),
    ("llama-rope-yarn", MAGNITUDE, 1.5, "take llama.rope.scaling.attn_factor out of"),
    ("phi3-longrope-long", FACTOR, 4.0, "take phi3.rope.scaling.factor out of"),
    ("llama-rope-yarn", ORIGINAL, 0, "write llama.rope.scaling.original_context_length 16 into"),
    ("phi3-longrope-short", ORIGINAL, 0, "write phi3.rope.scaling.original_context_length 512 into"),
    ("phi3-longrope-long", MAGNITUDE, None, "write phi3.rope.scaling.attn_factor 1.41421"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_each_key_is_computed_as_llamacpp_does_and_named(tmp_path: Path, case: Any) -> None:
    recipe, key, value, advice = case
    folder, file = tiny_pair(tmp_path, recipe)
    planted = restated(file, tmp_path / "planted.gguf", {key: value})
    theirs = llamacpp_logits(planted, IDS)
    assert np.abs(theirs - llamacpp_logits(file, IDS)).max() > 0.1
    assert np.abs(trace(planted, tokens=IDS)["logits"].numpy() - theirs).max() < 1e-4
    (finding,) = compared_files(planted, folder, tokens=tuple(IDS)).findings
    assert (finding.kind, finding.side, finding.status, finding.latent) == (
        "config.rope_scaling", "left", "confirmed", False
    )  # fmt: skip
    assert finding.recommendation.startswith(advice)


@pytest.mark.parametrize(
    ("lost", "advice"),
    [
        ({"rope.scaling.type", FACTOR}, "write llama.rope.scaling.type linear, llama.rope.scaling.factor 4.0 into"),
        ({FACTOR}, "write llama.rope.scaling.factor 4 into"),
    ],
)  # fmt: skip
def test_a_rule_that_is_lost_whole_is_advised_whole(tmp_path: Path, lost: set[str], advice: str) -> None:
    """llama.cpp takes a factor without a type for a linear one; other readers of the file ask for the type."""
    folder, file = tiny_pair(tmp_path, "llama-rope-linear")
    planted = restated(file, tmp_path / "planted.gguf", dict.fromkeys(lost))
    (finding,) = compared_files(planted, folder, tokens=tuple(IDS)).findings
    assert finding.recommendation.startswith(advice)


def test_a_file_whose_tokens_see_those_behind_them_is_refused(tmp_path: Path) -> None:
    _, file = tiny_pair(tmp_path, "llama")
    planted = restated(file, tmp_path / "planted.gguf", {"attention.causal": False})
    with pytest.raises(UnsupportedError, match=r"llama\.attention\.causal is false"):
        open_model(planted)


@pytest.mark.parametrize("recipe", ["gemma2", "afmoe"])
def test_windows_are_turned_by_the_base_that_a_gguf_has_for_them(tmp_path: Path, recipe: str) -> None:
    folder, file = tiny_pair(tmp_path, recipe)
    planted = restated(file, tmp_path / "planted.gguf", {"rope.freq_base_swa": 500.0})
    theirs = llamacpp_logits(planted, IDS)
    assert np.abs(theirs - llamacpp_logits(file, IDS)).max() > 0.1
    assert np.abs(trace(planted, tokens=IDS)["logits"].numpy() - theirs).max() < 5e-3  # its GELU is a table
    (finding,) = compared_files(planted, folder, tokens=tuple(IDS)).findings
    assert (finding.kind, finding.key, finding.side, finding.status) == (
        "config.rope_theta", "rope.freq_base_swa", "left", "confirmed"
    )  # fmt: skip


@pytest.mark.parametrize("recipe", ["deepseek2-v3", "deepseek32"])
def test_latent_attention_grows_by_a_factor_that_is_no_yarn(tmp_path: Path, recipe: str) -> None:
    """llama.cpp undoes there what it takes off YaRN's magnitude, and takes off nothing where the scaling is linear."""
    _, file = tiny_pair(tmp_path, recipe)
    planted = restated(file, tmp_path / "planted.gguf", {"rope.scaling.type": "linear", FACTOR: 4.0})
    theirs = llamacpp_logits(planted, IDS)
    assert np.abs(theirs - llamacpp_logits(file, IDS)).max() > 0.1
    assert np.abs(trace(planted, tokens=IDS)["logits"].numpy() - theirs).max() < 1e-3


READ: list[tuple[str, str, Any, str]] = [  # recipe, key, value (None: taken out), kind
    ("granite", "rope.scaling.finetuned", False, "config.layer_pattern"),
    ("hunyuan-dense", "rope.scaling.alpha", 4.0, "config.rope_theta"),
]


@pytest.mark.parametrize("case", READ, ids=lambda case: f"{case[0]}-{case[1]}")
def test_keys_of_the_rotation_that_few_have_are_computed_as_llamacpp_does(tmp_path: Path, case: Any) -> None:
    recipe, key, value, kind = case
    folder, file = tiny_pair(tmp_path, recipe)
    planted = restated(file, tmp_path / "planted.gguf", {key: value})
    theirs = llamacpp_logits(planted, IDS)
    assert np.abs(theirs - llamacpp_logits(file, IDS)).max() > 1e-2
    assert np.abs(trace(planted, tokens=IDS)["logits"].numpy() - theirs).max() < 1e-4
    (finding,) = compared_files(planted, folder, tokens=tuple(IDS)).findings
    assert (finding.kind, finding.side, finding.status) == (kind, "left", "confirmed")
    assert key in finding.recommendation


@pytest.mark.parametrize(
    ("recipe", "key", "value"),
    [("gemma2", "rope.dimension_count_swa", 4), ("gpt-oss", "rope.freq_base_swa", 500.0)],
)
def test_another_rotation_of_windows_is_refused_where_none_is_run(
    tmp_path: Path, recipe: str, key: str, value: Any
) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    planted = restated(file, tmp_path / "planted.gguf", {key: value})
    with pytest.raises(UnsupportedError, match=rf"{recipe}\.{key} is {value}"):
        open_model(planted)


def test_a_key_of_yarn_is_advised_of_latent_attention_as_of_any_other(tmp_path: Path) -> None:
    folder, file = tiny_pair(tmp_path, "deepseek2-v2-lite")
    one = restated(file, tmp_path / "one.gguf", {FACTOR: 8.0})
    (finding,) = compared_files(one, folder, tokens=tuple(IDS)).findings
    assert finding.recommendation.startswith("write deepseek2.rope.scaling.factor 4 into ")
    planted = restated(
        file, tmp_path / "planted.gguf", {FACTOR: 8.0, "rope.scaling.original_context_length": 64}
    )
    (finding,) = compared_files(planted, folder, tokens=tuple(IDS)).findings
    assert finding.recommendation.startswith(
        "write deepseek2.rope.scaling.type yarn, deepseek2.rope.scaling.factor 4.0"
    )
    multiplier = (
        f"rope.scaling.yarn_log_multiplier {open_model(file).container.settings[MULTIPLIER].value:.4f}"
    )
    assert multiplier in finding.recommendation


@pytest.mark.parametrize(
    ("key", "value"), [("head_count_kv", 2), ("head_count_kv", None), ("key_length", 49)]
)
def test_latent_attention_that_llamacpp_refuses_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    _, file = tiny_pair(tmp_path, "deepseek2-v2-lite")
    planted = restated(file, tmp_path / "planted.gguf", {f"attention.{key}": value})
    with pytest.raises(
        DamagedFileError, match=rf"deepseek2\.attention\.{key} is .*, and llama\.cpp asks for"
    ):
        open_model(planted)


@pytest.mark.parametrize("recipe", ["deepseek2-v2-lite", "deepseek32"])
def test_any_type_but_yarn_is_linear_in_latent_attention_too(tmp_path: Path, recipe: str) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    planted = restated(file, tmp_path / "planted.gguf", {"rope.scaling.type": "longrope"})
    theirs = llamacpp_logits(planted, IDS)
    assert np.abs(theirs - llamacpp_logits(file, IDS)).max() > 0.1
    assert np.abs(trace(planted, tokens=IDS)["logits"].numpy() - theirs).max() < 1e-4


@pytest.mark.parametrize(
    ("recipe", "stated", "named"),
    [("gpt-oss", {"rope.scaling.type": "none"}, FACTOR), ("gemma3", {MAGNITUDE: 2.0}, MAGNITUDE)],
)
def test_scaling_that_windows_have_otherwise_is_refused(
    tmp_path: Path, recipe: str, stated: dict[str, Any], named: str
) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    planted = restated(file, tmp_path / "planted.gguf", stated)
    assert np.abs(llamacpp_logits(planted, IDS) - llamacpp_logits(file, IDS)).max() > 1e-2
    with pytest.raises(UnsupportedError, match=f"{recipe}.{named} is .* in layers with a window"):
        open_model(planted)


def test_sections_that_turn_other_pairs_take_the_blame(tmp_path: Path) -> None:
    folder, file = tiny_pair(tmp_path, "glm4")
    planted = restated(file, tmp_path / "planted.gguf", {"rope.dimension_sections": [2, 1, 1, 0]})
    theirs = llamacpp_logits(planted, IDS)
    assert np.abs(trace(planted, tokens=IDS)["logits"].numpy() - theirs).max() < 1e-4
    (finding,) = compared_files(planted, folder, tokens=tuple(IDS)).findings
    assert (finding.kind, finding.key, finding.status) == (
        "config.rope_type", "rope.dimension_sections", "confirmed"
    )  # fmt: skip
    assert finding.recommendation.startswith("take glm4.rope.dimension_sections out of ")


@pytest.mark.parametrize("recipe", ["deepseek2-v2-lite", "deepseek2-v3"])
@pytest.mark.parametrize("factor", [None, 2.0])
@pytest.mark.parametrize("beside", ["folder", "gguf"])
def test_the_multiplier_of_yarn_is_put_right_by_its_own_key(
    tmp_path: Path, recipe: str, factor: float | None, beside: str
) -> None:
    """By attn_factor the rotation would be right and the scale of the scores wrong."""
    folder, file = tiny_pair(tmp_path, recipe)
    stated = open_model(file).container.settings[MULTIPLIER].value
    wrong = None if factor is None else stated * factor
    planted = restated(file, tmp_path / "planted.gguf", {MULTIPLIER: wrong})
    assert np.abs(llamacpp_logits(planted, IDS) - llamacpp_logits(file, IDS)).max() > 0.1
    found = compared_files(planted, folder if beside == "folder" else file, tokens=tuple(IDS)).findings
    assert {finding.status for finding in found} == {"confirmed"}
    for finding in found:
        said = re.match(rf"write deepseek2\.{MULTIPLIER} (\S+) into ", finding.recommendation)
        assert said is not None, finding.recommendation
        assert np.float32(said[1]) == np.float32(stated)


@pytest.mark.parametrize("recipe", ["deepseek2-v2", "deepseek2-v3", "deepseek2-glm4lite"])
def test_queries_of_latent_attention_grow_with_their_position_where_a_gguf_says_so(
    tmp_path: Path, recipe: str
) -> None:
    """Mistral Large 3 is published as deepseek2."""
    folder, file = tiny_pair(tmp_path, recipe)
    scale, length = "attention.temperature_scale", "attention.temperature_length"
    planted = restated(file, tmp_path / "planted.gguf", {scale: 0.5, length: 4})
    theirs = llamacpp_logits(planted, IDS)
    assert np.abs(theirs - llamacpp_logits(file, IDS)).max() > 0.1
    assert np.abs(trace(planted, tokens=IDS)["logits"].numpy() - theirs).max() < 1e-4
    (finding,) = compared_files(planted, folder, tokens=tuple(IDS)).findings
    assert (finding.kind, finding.key, finding.status) == ("config.attention_temperature", scale, "confirmed")
    alone = restated(
        file, tmp_path / "alone.gguf", {scale: 0.5, length: None}
    )  # llama.cpp ends with an assertion
    with pytest.raises(DamagedFileError, match=rf"has no deepseek2\.{length}"):
        open_model(alone)


@pytest.mark.parametrize("rule", ["linear", "yarn"])
@pytest.mark.parametrize("recipe", ["mimo2", "step35"])
def test_layers_with_a_window_are_not_scaled_where_llamacpp_does_not(
    tmp_path: Path, recipe: str, rule: str
) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    stated = {"rope.scaling.type": rule, FACTOR: 4.0, ORIGINAL: 16}
    planted = restated(file, tmp_path / "planted.gguf", stated)
    theirs = llamacpp_logits(planted, IDS)
    assert np.abs(theirs - llamacpp_logits(file, IDS)).max() > 0.1
    assert np.abs(trace(planted, tokens=IDS)["logits"].numpy() - theirs).max() < 1e-4
    (finding,) = compared_files(planted, file, tokens=tuple(IDS)).findings
    assert (finding.kind, finding.status) == ("config.rope_scaling", "confirmed")
    assert finding.recommendation.startswith(f"take {recipe}.{FACTOR} out of ")
    grown = restated(file, tmp_path / "grown.gguf", {MAGNITUDE: 1.5})
    with pytest.raises(UnsupportedError, match=rf"{recipe}\.{MAGNITUDE} is 1\.5"):
        open_model(grown)
