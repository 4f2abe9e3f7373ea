"""A GGUF file under another architecture's name is one finding, at the first stage that computes otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import faults
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared, compared_files, tiny
from fixtures.pairs import pair
from fixtures.restating import restated


@pytest.mark.parametrize(
    ("real", "said", "stage"),
    [
        ("llama", "qwen2", "q_rope"),  # pairs are turned as halves
        ("qwen2", "llama", "q_rope"),
        ("qwen3", "qwen2", "q"),  # the norm over heads is left out
        ("qwen3", "llama", "q"),
    ],
)
@pytest.mark.parametrize("other", ["hf:F16", "apr-gguf:F16"])
def test_other_name_is_found_where_it_first_matters(
    tmp_path: Path, real: str, said: str, stage: str, other: str
) -> None:
    report = compared(tmp_path, real, "gguf:F16", other, faults.architecture(said))
    cause = Cause("config.architecture", "architecture", declared=said, actual=real)
    assert_proven(report, f"layers.0.{stage}", cause)


def test_values_derived_from_the_name_are_not_accused(tmp_path: Path) -> None:
    """With other defaults come another theta, other norms: all of one cause."""
    spec = tiny("qwen2", theta=10000.0)
    fault = [faults.architecture("llama"), faults.config_removed("llama.rope.freq_base")]
    report = compared(tmp_path, spec, "gguf:F16", "apr-gguf:F16", fault)
    assert [found.kind for found in report.findings] == ["config.architecture"]


def test_a_folder_is_told_to_call_its_model_by_its_own_keys(tmp_path: Path) -> None:
    left, right = pair(tmp_path, tiny("llama"), "hf:F16", "gguf:F16")
    named = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    other = restated(left, tmp_path / "other", named)
    (found,) = compared_files(other, right).findings
    assert found.recommendation == (
        f'write model_type "llama" and architectures ["LlamaForCausalLM"] into {other}/config.json'
    )
    advice = [found.recommendation for found in compared_files(right, other).findings]
    assert [text for text in advice if text.startswith("write general.architecture qwen2 into the GGUF file")]
