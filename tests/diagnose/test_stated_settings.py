"""What a folder's config.json says wrongly of any architecture is named by the setting that it states, and by the key
and the value that would put it right: the models are made by transformers, the keys are its own.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import compared_files
from fixtures.oracles import transformers_logits
from fixtures.recipes import FULL, SLIDING
from fixtures.restating import restated
from rosetta.api import trace
from rosetta.containers import open_container
from rosetta.errors import UnsupportedError
from rosetta.model import open_model

pytestmark = pytest.mark.requires_transformers
PATTERN_KIND = "config.layer_pattern"
PATTERN, EXPERTS = "attention.sliding_window_pattern", "expert_layers"
SHARED, RECURRENT = "expert_shared_feed_forward_length", "attention.recurrent_layers"
SCALE, KV_HEADS = "attention.scale", "attention.head_count_kv"
CASES: list[tuple[str, str, Any, str, str, str]] = [
    # recipe, key of config.json, wrong value, kind, setting, what is to be written
    ("afmoe", "num_dense_layers", 2, PATTERN_KIND, EXPERTS, "write num_dense_layers 1 "),
    ("afmoe", "num_shared_experts", 0, "config.expert_weights", SHARED, "write num_shared_experts 1 "),
    ("bamba", "attn_layer_indices", [3], PATTERN_KIND, RECURRENT, "write attn_layer_indices [2] "),
    (
        "gemma2",
        "query_pre_attn_scalar",
        64,
        "config.attention_scale",
        SCALE,
        "write query_pre_attn_scalar 32 ",
    ),
    (
        "mimo2",
        "layer_types",
        [FULL] + 3 * [SLIDING],
        "config.layer_pattern",
        PATTERN,
        "write layer_types [",
    ),
    (
        "laguna",
        "layer_types",
        [FULL] + 4 * [SLIDING],
        "config.layer_pattern",
        PATTERN,
        "layer_types [",
    ),
    (
        "gemma4-moe",
        "enable_moe_block",
        False,
        "config.experts_used",
        "expert_count",
        "write enable_moe_block true ",
    ),
    ("laguna", "gating", False, PATTERN_KIND, "attention.gate_per_head", "write gating per-head into "),
    (
        "bloom",
        "apply_residual_connection_post_layernorm",
        True,
        "config.parallel_residual",
        "residual_of_norm",
        "write apply_residual_connection_post_layernorm false ",
    ),
    (
        "falcon-h1",
        "lm_head_multiplier",
        0.25,
        "config.logit_scale",
        "lm_head_multiplier",
        "write lm_head_multiplier 0.5 into",
    ),
    (
        "falcon-h1",
        "attention_in_multiplier",
        1.9,
        "config.attention_scale",
        "attention_in_multiplier",
        "write attention_in_multiplier 0.9 into",
    ),
    (
        "falcon-h1",
        "key_multiplier",
        1.4,
        "config.attention_scale",
        "key_multiplier",
        "write key_multiplier 0.7 into",
    ),
    (
        "falcon-h1",
        "ssm_in_multiplier",
        1.9,
        "config.residual_scale",
        "ssm_in_multiplier",
        "write ssm_in_multiplier 0.9 into",
    ),
    (
        "falcon-h1",
        "ssm_multipliers",
        [0.9, 0.8, 0.9, 1.1, 1.2],
        "config.residual_scale",
        "ssm_multipliers.2",
        "write ssm_multipliers [0.9, 0.8, 0.7, 1.1, 1.2] into",
    ),
    (
        "mistral4",
        "rope_parameters.mscale",
        1.5,
        "config.rope_scaling",
        "rope.scaling",
        "write rope_parameters.mscale 1.0 ",
    ),
    ("ernie4_5-moe", "moe_layer_end_index", 1, PATTERN_KIND, EXPERTS, "write moe_layer_end_index 2 "),
    ("ernie4_5-moe", "moe_layer_interval", 2, PATTERN_KIND, EXPERTS, "write moe_layer_interval 1 "),
    ("falcon-7b", "multi_query", False, "config.head_count_kv", KV_HEADS, "write multi_query true "),
    ("gemma4-moe", "head_dim", 16, "config.head_dim", "attention.key_length", "write head_dim 32 "),
    ("falcon-h1", "mamba_d_ssm", 128, "config.state_size", "ssm.inner_size", "write mamba_d_ssm 64 "),
    # Taken out: by the key that the class would look for.
    ("gemma2", "num_hidden_layers", None, "config.layer_count", "block_count", "write num_hidden_layers 4 "),
    ("gemma2", "query_pre_attn_scalar", None, "config.attention_scale", SCALE, "query_pre_attn_scalar 32 "),
    ("ernie4_5-moe", "moe_k", None, "config.experts_used", "expert_used_count", "write moe_k 2 "),
    ("falcon-40b", "num_kv_heads", None, "config.head_count_kv", KV_HEADS, "write num_kv_heads 2 "),
    ("falcon-h1", "mamba_n_groups", None, "config.state_size", "ssm.group_count", "write mamba_n_groups 2 "),
    ("gemma4-moe", "attention_k_eq_v", None, PATTERN_KIND, "attention.keys_are_values", "attention_k_eq_v true "),
    ("hunyuan-moe", "moe_topk", None, "config.experts_used", "expert_used_count", "write moe_topk 2 "),
    ("qwen3", "vocab_size", None, "config.vocab_size", "vocab_size", "write vocab_size 384 "),
    ("gemma4", "sliding_window", None, "config.sliding_window", "attention.sliding_window", "write sliding_window 8 "),
    ("gemma4", "layer_types", None, PATTERN_KIND, PATTERN, 'write layer_types ["sliding_attention", '),
    ("mellum", "layer_types", None, PATTERN_KIND, PATTERN, 'write layer_types ["sliding_attention", '),
    ("laguna", "num_attention_heads_per_layer", None, "config.head_count", "attention.head_count",
     "write num_attention_heads_per_layer [4, 2, 2, 2, 4] "),
    ("gemma4", "use_double_wide_mlp", False, "config.feed_forward_length", "feed_forward_length",
     "write use_double_wide_mlp true "),
    ("gemma4", "num_hidden_layers", 3, "config.layer_count", "block_count", "write num_hidden_layers 7 "),
    ("llama4", "use_qk_norm", False, "config.norm_type", "attention.head_norm", "write use_qk_norm true "),
    ("exaone4", "sliding_window", 4, PATTERN_KIND, "rope.layers", "write sliding_window null "),
    ("granitehybrid", "hidden_size", 32, "config.embedding_length", "embedding_length", "write hidden_size 64 "),
    ("mamba", "intermediate_size", 64, "config.state_size", "ssm.inner_size", "write intermediate_size 128 "),
    ("mamba", "hidden_act", "relu", "config.activation", "activation", "write hidden_act silu "),
    ("jamba", "hidden_act", "relu", "config.activation", "activation", "write hidden_act silu "),
    ("nemotron_h", "mamba_head_dim", None, "config.state_size", "ssm.inner_size", "write mamba_head_dim 16 "),
    ("minicpm", "scale_emb", None, "config.embedding_scale", "embedding_scale", "write scale_emb 12 "),
    ("mistral4", "rope_parameters.factor", 6.0, "config.rope_scaling", "rope.scaling",
     "write rope_parameters.factor 4.0 "),
    ("mistral4", "rope_parameters.mscale_all_dim", 1.5, "config.rope_scaling", "rope.scaling",
     "write rope_parameters.mscale_all_dim 1.0 "),
    ("deepseek2-v3", "rope_parameters.rope_type", None, "config.rope_scaling", "rope.scaling",
     'write rope_parameters.rope_type "yarn" '),
    ("phi3-longrope-long", "rope_parameters.rope_type", None, "config.rope_scaling", "rope.scaling",
     'write rope_parameters.rope_type "longrope" '),
    ("gemma4-kv", "rope_parameters.full_attention.rope_type", None, "config.rope_scaling", "rope.scaling",
     'write rope_parameters.full_attention.rope_type "proportional" '),
    ("phi3-longrope-short", "rope_parameters.short_factor", [1.5, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35],
     "config.rope_scaling", "rope.scaling", "write rope_parameters.short_factor [1.0, 1.05, 1.1, 1.15, "),
    ("gemma4-kv", "rope_parameters.full_attention.partial_rotary_factor", 0.375, "config.rope_scaling", "rope.scaling",
     "write rope_parameters.full_attention.partial_rotary_factor 0.25 "),
    ("llama-rope-linear", "rope_parameters", None, "config.rope_scaling", "rope.scaling",
     'write rope_parameters {"rope_type": "linear", "factor": 4.0}'),
    ("hunyuan-dense-alpha", "rope_parameters", None, "config.rope_theta", "rope.freq_base",
     "write rope_parameters.rope_theta "),
    (
        "mimo2", "rope_parameters.sliding_attention.partial_rotary_factor", 0.501, "config.rope_dimensions",
        "rope.dimension_count_swa", "write rope_parameters.sliding_attention.partial_rotary_factor 0.333",
    ),
    (
        "phi3-longrope-long", "original_max_position_embeddings", None, "config.rope_scaling", "rope.scaling",
        '"original_max_position_embeddings": 8',
    ),
    (
        "exaone-moe", "routed_scaling_factor", None, "config.expert_weights", "expert_weights_scale",
        "write routed_scaling_factor 1.5 ",
    ),
]  # fmt: skip


@cache
def pair_of(place: Path, name: str) -> tuple[Path, Path]:
    """A recipe's folder and its GGUF file."""
    folder = place / name
    folder.mkdir()
    return tiny_pair(folder, name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


@pytest.mark.sample(3)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_the_setting_is_named_with_the_key_that_states_it(place: Path, tmp_path: Path, case: Any) -> None:
    name, stated, wrong, kind, key, advice = case
    folder, file = pair_of(place, name)
    broken = restated(folder, tmp_path / "broken", {stated: wrong})
    report = compared_files(broken, file, tokens=None, prompt="auto")
    assert report.verdict == "divergent"
    assert [(f.kind, f.key, f.side, f.status, f.latent) for f in report.findings] == [
        (kind, key, "left", "confirmed", False)
    ]
    assert advice in report.findings[0].recommendation


def test_a_lost_table_of_the_rotation_is_named_in_the_part_that_reads(place: Path, tmp_path: Path) -> None:
    folder, file = pair_of(place, "qwen3vl")
    report = compared_files(restated(folder, tmp_path / "lost", {"text_config.rope_parameters": None}), file)
    table = "text_config.rope_parameters."
    assert [(f.kind, f.recommendation.partition(" into ")[0]) for f in report.findings] == [
        ("config.rope_theta", f"write {table}rope_theta 10000"),
        ("config.rope_sections", f"write {table}mrope_section [6, 5, 5]"),
    ]


@pytest.mark.parametrize("said", ["relu", "gelu"])
@pytest.mark.parametrize("name", ["mamba", "mamba2", "jamba", "granitehybrid"])
def test_states_are_of_the_activation_that_is_stated(
    place: Path, tmp_path: Path, name: str, said: str
) -> None:
    folder = restated(pair_of(place, name)[0], tmp_path / "other", {"hidden_act": said})
    ids = (17, 10, 17, 28, 300, 5, 63)
    assert np.abs(trace(folder, tokens=ids)["logits"].numpy() - transformers_logits(folder, ids)).max() < 1e-3


@pytest.mark.parametrize(("name", "lost"), [("minicpm3", "v_head_dim"), ("phi2", "num_key_value_heads")])
def test_what_a_class_takes_by_itself_need_not_be_stated(
    place: Path, tmp_path: Path, name: str, lost: str
) -> None:
    folder, file = pair_of(place, name)
    report = compared_files(restated(folder, tmp_path / "silent", {lost: None}), file)
    assert (report.verdict, report.findings) == ("match", [])


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("mpt", "expansion_ratio", 8),
        ("nemotron_h", "time_step_limit", [0.0, 0.5]),
        ("gpt2", "num_key_value_heads", 2),
        ("mpt", "head_dim", 2),
        ("bloom", "head_dim", 2),
        ("starcoder", "head_dim", 2),
        ("deepseek-ocr", "text_config.head_dim", 2),
        ("unlimited-ocr", "text_config.head_dim", 2),
        ("qwen2", "kv_channels", 2),
        ("bloom", "n_inner", 2),
        ("gemma", "embedding_multiplier", 2),
        ("lfm2", "hidden_act", "relu"),
        ("mpt", "activation_function", "relu"),
        ("mamba", "rms_norm_eps", 2),
        ("olmo", "layer_norm_eps", 2),
        ("stablelm", "partial_rotary_factor", 0.75),
    ],
)
def test_a_usual_key_that_its_class_has_not_says_nothing(
    place: Path, tmp_path: Path, name: str, key: str, said: Any
) -> None:
    folder, file = pair_of(place, name)
    stating, ids = restated(folder, tmp_path / "stating", {key: said}), (17, 10, 17, 28, 300, 5, 63)
    assert key in {setting.key for setting in open_model(stating).unheeded}
    assert (
        np.abs(trace(stating, tokens=ids)["logits"].numpy() - transformers_logits(stating, ids)).max() < 1e-3
    )
    report = compared_files(stating, file)
    assert (report.verdict, report.findings) == ("match", [])


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [("gemma4", "enable_moe_block", True), ("gemma4", "num_kv_shared_layers", 6), ("gpt2", "head_dim", 3)],
)
def test_what_is_stated_and_cannot_be_computed_is_noted(
    place: Path, tmp_path: Path, name: str, key: str, said: int
) -> None:
    """Experts of which there are none, keys of a kind of layers of which none has some, a size that its class lacks."""
    folder, _ = pair_of(place, name)
    stating = restated(folder, tmp_path / "stating", {key: said})
    assert [setting.key for setting in open_model(stating).unheeded] == [key]


def test_a_stored_head_is_used_where_the_config_ties_it_and_factors_are_in_the_weights(
    place: Path, tmp_path: Path
) -> None:
    """Falcon-H1's folder has one matrix for two weights of unlike factors, and here one for each."""
    folder, file = pair_of(place, "falcon-h1")
    tied, ids = restated(folder, tmp_path / "tied", {"tie_word_embeddings": True}), (17, 10, 17, 28, 300, 5)
    theirs = transformers_logits(tied, ids)
    assert np.abs(trace(tied, tokens=ids)["logits"].numpy() - theirs).max() < 1e-4 * np.abs(theirs).max()
    report = compared_files(tied, file)
    assert (report.verdict, [f.latent for f in report.findings]) == ("match", [True])


def test_a_folder_of_mamba_has_the_width_that_it_states_whatever_it_expands_by(
    place: Path, tmp_path: Path
) -> None:
    folder, file = pair_of(place, "mamba")
    report = compared_files(restated(folder, tmp_path / "other", {"expand": 4}), file)
    assert (report.verdict, report.findings) == ("match", [])


@pytest.mark.requires_transformers
def test_a_list_of_fewer_layers_than_the_file_has_is_compared(tmp_path: Path) -> None:
    """What a repair says of one list of layers, the others do not say yet."""
    right, _ = tiny_pair(tmp_path, "nemotron_h")
    kinds = [*open_container(right).metadata["layers_block_type"]]
    wrong = restated(right, tmp_path / "wrong", {"layers_block_type": [kinds[0], *kinds[2:]]})
    report = compared_files(wrong, right)
    assert report.verdict == "divergent"
    assert "config.layer_count" in {finding.kind for finding in report.findings}


DENIED = [
    # recipe, key, what is said of it, the finding
    ("mamba", "time_step_rank", 64, "config.state_size", "ssm.time_step_rank"),
    ("mamba", "state_size", 17, "config.state_size", "ssm.state_size"),
    ("qwen3moe", "num_experts_per_tok", 64, "config.experts_used", "expert_used_count"),
    ("qwen3moe", "head_dim", 64, "config.head_dim", "attention.key_length"),
    ("granitehybrid-rope", "num_attention_heads", 8, "config.head_count", "attention.head_count"),
    ("gemma4", "layer_types", None, "config.layer_pattern", "attention.sliding_window_pattern"),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize("case", DENIED, ids=lambda case: f"{case[0]}-{case[1]}")
def test_a_setting_of_the_believed_side_that_it_denies_itself_is_the_one_finding(
    place: Path, tmp_path: Path, case: Any
) -> None:
    """The right side is believed, its own tensors or settings do not go with the key, and nothing else is accused."""
    name, stated, wrong, kind, key = case
    folder, _ = pair_of(place, name)
    broken = restated(folder, tmp_path / "broken", {stated: wrong})
    report = compared_files(folder, broken, reference="right")
    assert [(f.kind, f.key, f.side, f.status, f.latent) for f in report.findings] == [
        (kind, key, "right", "confirmed", False)
    ]


def test_the_base_of_one_layer_is_put_right(place: Path, tmp_path: Path) -> None:
    folder, _ = pair_of(place, "granite-swa-bases")
    broken = restated(folder, tmp_path / "broken", {"layer_rope_theta": [0, 10000.0, 1000000.0, 10000.0]})
    (found,) = compared_files(broken, folder).findings
    assert (found.kind, found.key, found.status) == ("config.rope_theta", "rope.freq_base", "confirmed")
    assert "write layer_rope_theta [0, 10000.0, 500000.0, 10000.0] into" in found.recommendation


def test_layers_that_all_see_everything_on_the_believed_side_are_one_finding(
    place: Path, tmp_path: Path
) -> None:
    """The class takes no window where a folder lists no layers: one flag for all, where the other has one for each."""
    folder, _ = pair_of(place, "mellum")
    broken = restated(folder, tmp_path / "broken", {"layer_types": None})
    (found,) = compared_files(folder, broken, tokens=None, prompt="auto").findings
    assert (found.kind, found.key, found.status) == (PATTERN_KIND, PATTERN, "confirmed")


@pytest.mark.parametrize("name", ["deepseek2-v3", "minicpm3", "kimi-linear"])
def test_fewer_key_value_heads_than_a_latent_gives_are_said_and_change_nothing(
    place: Path, tmp_path: Path, name: str
) -> None:
    folder, _ = pair_of(place, name)
    report = compared_files(restated(folder, tmp_path / "fewer", {"num_key_value_heads": 2}), folder)
    (found,) = report.findings
    assert (report.verdict, found.kind, found.key, found.latent) == (
        "match",
        "config.head_count_kv",
        KV_HEADS,
        True,
    )
    assert "write num_key_value_heads 4 into" in found.recommendation


def test_a_head_is_tied_where_the_whole_or_its_part_says_so(place: Path, tmp_path: Path) -> None:
    folder, _ = pair_of(place, "hunyuan-vl")
    report = compared_files(restated(folder, tmp_path / "part", {"tie_word_embeddings": False}), folder)
    assert (report.verdict, report.findings) == ("match", [])


def test_a_linear_scaling_by_one_is_none(place: Path, tmp_path: Path) -> None:
    folder, _ = pair_of(place, "llama")
    scaling = {"rope_parameters.rope_type": "linear", "rope_parameters.factor": 1.0}
    report = compared_files(restated(folder, tmp_path / "one", scaling), folder)
    assert (report.verdict, report.findings) == ("match", [])


def test_a_share_of_the_router_that_goes_into_the_experts_is_refused(place: Path, tmp_path: Path) -> None:
    folder, _ = pair_of(place, "laguna")
    broken = restated(folder, tmp_path / "into", {"moe_apply_router_weight_on_input": True})
    with pytest.raises(UnsupportedError, match="moe_apply_router_weight_on_input is True"):
        compared_files(broken, folder)


@pytest.mark.parametrize(
    ("name", "stated", "wrong", "advice"),
    [
        ("llama-rope-dynamic", "max_position_embeddings", 32, "write max_position_embeddings 16 "),
        (
            "muse-glimmer",
            "text_config.rope_parameters.rope_theta",
            15000.0,
            "rope_parameters.rope_theta 10000 ",
        ),
    ],
)
def test_what_a_gguf_cannot_say_is_named_between_two_folders(
    place: Path, tmp_path: Path, name: str, stated: str, wrong: Any, advice: str
) -> None:
    folder, _ = pair_of(place, name)
    broken = restated(folder, tmp_path / "broken", {stated: wrong})
    (found,) = compared_files(broken, folder, tokens=tuple(range(40, 70))).findings
    assert (found.status, found.latent) == ("confirmed", False)
    assert advice in found.recommendation


def test_a_window_of_phimoe_is_that_of_transformers(place: Path, tmp_path: Path) -> None:
    folder, _ = pair_of(place, "phimoe")
    narrow, ids = restated(folder, tmp_path / "narrow", {"sliding_window": 4}), tuple(range(40, 60))
    assert np.abs(trace(narrow, tokens=ids)["logits"].numpy() - transformers_logits(narrow, ids)).max() < 1e-3
    (found,) = compared_files(narrow, folder, tokens=ids).findings
    assert (found.kind, found.status) == ("config.sliding_window", "confirmed")


@pytest.mark.parametrize("name", ["qwen2", "qwen2moe"])
def test_layers_with_a_window_of_no_size_are_said(place: Path, tmp_path: Path, name: str) -> None:
    folder, _ = pair_of(place, name)
    broken = restated(folder, tmp_path / "windows", {"layer_types": [SLIDING, FULL, FULL]})
    (found,) = compared_files(broken, folder).findings
    assert (found.kind, found.latent) == ("config.sliding_window", True)
    assert "layer_types with full_attention alone" in found.recommendation
