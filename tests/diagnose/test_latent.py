"""Differences that a run does not show are findings all the same, latent, with what would show them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures import Llama3Scaling, faults, model_spec
from fixtures.builders import gguf_contents
from fixtures.canonical_gguf import tiny_pair
from fixtures.causes import Cause, assert_causes, assert_clean, assert_proven
from fixtures.comparing import TOKENS, compared, compared_files, faulty, tiny
from fixtures.restating import restated
from fixtures.writing import write

ONE = (17,)
NEEDS_TWO = [
    # fault, kind, key, declared, actual
    (faults.rope_theta(5e5), "config.rope_theta", "rope.freq_base", 5e5, 1e6),
    (faults.attention_scale(0.2), "config.attention_scale", "attention.scale", 0.2, 0.25),
    (faults.rope_dimensions(8), "config.rope_dimensions", "rope.dimension_count", 8, 16),
]


@pytest.mark.parametrize("operands", [("gguf:F32", "hf:F32"), ("apr:F32", "gguf:F32")])
@pytest.mark.parametrize("case", NEEDS_TWO, ids=lambda case: case[1])
def test_one_token_hides_what_depends_on_position(tmp_path: Path, operands: Any, case: Any) -> None:
    fault, kind, key, declared, actual = case
    report = compared(tmp_path, "qwen2", *operands, fault, tokens=ONE)
    assert report.verdict == "match"
    cause = Cause(kind, key, declared=declared, actual=actual, latent=True, status="suspected")
    assert_causes(report, cause)
    assert "it shows from 2 tokens on" in report.findings[0].message
    assert any("one token hides every rotary and attention-scale fault" in note for note in report.notes)


def test_lost_rope_scaling_is_latent_on_one_token(tmp_path: Path) -> None:
    spec = tiny("llama", rope_scaling=Llama3Scaling())
    report = compared(tmp_path, spec, "apr:F32", "gguf:F32", faults.rope_scaling_lost(), tokens=ONE)
    assert_causes(report, Cause("config.rope_scaling", "rope.scaling", latent=True, status="suspected"))


def test_what_follows_from_a_latent_setting_is_no_finding_of_its_own(tmp_path: Path) -> None:
    """Which frequencies llama 3's rule divides depends on the base."""
    spec = tiny("llama", rope_scaling=Llama3Scaling())
    report = compared(tmp_path, spec, "apr:F32", "gguf:F32", faults.rope_theta(5e5), tokens=ONE)
    assert_causes(report, Cause("config.rope_theta", "rope.freq_base", latent=True, status="suspected"))


@pytest.mark.parametrize("case", NEEDS_TWO, ids=lambda case: case[1])
def test_prompt_auto_shows_it(tmp_path: Path, case: Any) -> None:
    fault, kind, key, declared, actual = case
    report = compared(tmp_path, "qwen2", "gguf:F16", "hf:F16", fault, tokens=None, prompt="auto")
    assert len(report.tokens.left) == 2, "two tokens are enough"
    assert report.prompt is None, "no text was run, and least of all 'auto'"
    assert_causes(report, Cause(kind, key, declared=declared, actual=actual))
    assert any("--prompt auto: 2 tokens" in note for note in report.notes)


@pytest.mark.parametrize("width", [3, 20])
def test_prompt_auto_is_as_long_as_a_window_needs(tmp_path: Path, width: int) -> None:
    fault = [faults.sliding_window(width), faults.rope_theta(5e5)]
    report = compared(tmp_path, "llama", "apr:F16", "hf:F16", fault, tokens=None, prompt="auto")
    assert len(report.tokens.left) == width + 1
    assert_proven(
        report,
        "layers.0.q_rope",
        Cause("config.rope_theta", "rope.freq_base", declared=5e5),
        Cause("config.sliding_window", "attention.sliding_window", declared=width, actual=0),
    )


def test_prompt_auto_of_a_clean_pair_is_two_tokens_and_clean(tmp_path: Path) -> None:
    report = compared(tmp_path, "gpt2", "gguf:F16", "hf:F16", tokens=None, prompt="auto")
    assert_clean(report)
    assert len(report.tokens.left) == 2


def test_epsilon_that_is_lost_in_the_rounding_is_latent_and_says_where_it_would_show(tmp_path: Path) -> None:
    spec = tiny("llama", embedding_std=30.0)
    report = compared(tmp_path, spec, "apr:F32", "gguf:F32", faults.norm_epsilon(1.00001e-5))
    assert report.verdict == "match"
    assert [(f.kind, f.key, f.latent) for f in report.findings] == [
        ("config.norm_epsilon", "attention.layer_norm_rms_epsilon", True)
    ]


def test_proven_fault_under_the_threshold_is_latent_with_its_reach(tmp_path: Path) -> None:
    """It is beyond the arithmetic, so it is located; it is below the threshold, so nothing diverges."""
    spec = tiny("llama", embedding_std=30.0)
    report = compared(tmp_path, spec, "apr:F32", "gguf:F32", faults.norm_epsilon(1e-2))
    assert report.verdict == "match"
    assert faulty(report)[0] == "layers.0.attn_norm"
    key = "attention.layer_norm_rms_epsilon"
    assert_causes(report, Cause("config.norm_epsilon", key, declared=1e-2, actual=1e-5, latent=True))
    # An epsilon larger by d takes d / 2m off an output of mean square m: 1e-3 of it where m is d / 2e-3.
    assert f"where the input's rms is below {(1e-2 / 2e-3) ** 0.5:.2g}" in report.findings[0].message


def test_epsilon_that_a_gguf_file_lacks_is_told_though_the_published_one_is_right(tmp_path: Path) -> None:
    report = compared(tmp_path, "llama", "gguf:F32", "hf:F32", faults.norm_epsilon(None))
    assert report.verdict == "match"
    (found,) = report.findings
    assert (found.kind, found.side, found.latent, found.status) == (
        "config.norm_epsilon", "left", True, "suspected",
    )  # fmt: skip
    assert "llama.cpp refuses the file" in found.message


def test_setting_that_a_run_has_shown_is_not_said_again(tmp_path: Path) -> None:
    report = compared(tmp_path, "llama", "gguf:F16", "hf:F16", faults.rope_theta(5e5))
    assert_proven(report, "layers.0.q_rope", Cause("config.rope_theta", "rope.freq_base"))


def test_fault_that_another_makes_invisible_is_no_finding_too_many(tmp_path: Path) -> None:
    """All values are zero behind a zeroed output matrix; the norm behind it is repaired and judged all the same."""
    fault = [faults.zeroed("blk.0.ffn_down.weight"), faults.scaled("blk.0.ffn_up.weight", 2.0)]
    report = compared(tmp_path, tiny("llama", tied=False), "gguf:F16", "apr:F16", fault, tokens=TOKENS)
    assert_proven(
        report,
        "layers.0.ffn_up",
        Cause("value.scaled", "blk.0.ffn_up.weight", actual=2.0),
        Cause("value.zeroed", "blk.0.ffn_down.weight"),
    )


def test_an_epsilon_that_the_loader_passes_over_is_not_missing(tmp_path: Path) -> None:
    contents = gguf_contents(model_spec("qwen2"))
    metadata = {key.replace("qwen2.", "qwen2vl."): value for key, value in contents.metadata.items()}
    metadata |= {"general.architecture": "qwen2vl", "qwen2vl.rope.dimension_sections": [4, 2, 2, 0]}
    path = tmp_path / "model.gguf"
    write(replace(contents, metadata=metadata), path)
    assert_clean(compared_files(path, path))


def test_a_flag_that_the_tensors_deny_is_a_finding(tmp_path: Path) -> None:
    """transformers would make biases that nobody trained. What it leaves out, see `test_denied_by_flag`."""
    claiming = faults.config_set("attention_bias", True)
    report = compared(tmp_path, tiny("llama"), "hf:F32", "gguf:F32", claiming)
    (found,) = report.findings
    assert (report.verdict, found.kind, found.key, found.latent) == (
        "match",
        "value.missing",
        "attention_bias",
        True,
    )
    assert "transformers makes one that nobody trained" in found.message
    assert_clean(
        compared(
            tmp_path / "clean", "llama", "hf:F32", "gguf:F32", faults.config_set("attention_bias", False)
        )
    )


@pytest.mark.requires_transformers
def test_a_window_that_its_gguf_has_a_key_for_is_latent_where_it_is_lost(tmp_path: Path) -> None:
    folder, file = tiny_pair(tmp_path, "gemma2")
    lost = restated(file, tmp_path / "lost.gguf", {"attention.sliding_window": None})
    report = compared_files(lost, folder, tokens=(17, 10, 28))
    assert [(f.kind, f.key, f.side, f.latent) for f in report.findings] == [
        ("config.sliding_window", "attention.sliding_window", "left", True)
    ]
