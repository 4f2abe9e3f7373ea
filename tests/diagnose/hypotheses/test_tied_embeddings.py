"""A head taken for the embedding that is not, and one stored where the embedding serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import build, faults
from fixtures.causes import Cause, assert_causes, assert_clean, assert_proven
from fixtures.comparing import compared, compared_files, tiny

KIND, KEY = "config.tied_embeddings", "tied_embeddings"


@pytest.mark.parametrize("other", ["hf:F16", "gguf:Q8_0"])
@pytest.mark.parametrize("operand", ["apr-gguf:F16", "gguf:F16", "gguf:Q8_0"])
def test_head_that_a_file_lacks_may_be_lost_or_wrongly_tied(tmp_path: Path, operand: str, other: str) -> None:
    """No file of these says whether it has a head: both are true, and the evidence says what was taken."""
    spec = tiny("llama", ffn=128, tied=False)
    report = compared(tmp_path, spec, operand, other, faults.dropped("output.weight"))
    cause = Cause(KIND, KEY, declared=True, actual=False, ties=("value.missing",))
    assert_proven(report, "logits", cause)
    assert report.findings[0].evidence.from_reference == "all 24576 weights of the head"


@pytest.mark.parametrize("operand", ["hf:F32", "apr:F32"])
def test_file_that_says_tied_and_holds_another_head_is_told_though_the_head_is_used(
    tmp_path: Path, operand: str
) -> None:
    """transformers and aprender use a stored head that differs: nothing diverges, and the config is wrong."""
    report = compared(tmp_path, tiny("llama", tied=False), operand, "gguf:F32", faults.config_set(KEY, True))
    assert report.verdict == "match"
    cause = Cause(KIND, KEY, declared=True, actual=False, latent=True, status="suspected")
    assert_causes(report, cause)


def test_head_stored_where_the_reference_is_tied(tmp_path: Path) -> None:
    left = build(tmp_path, tiny("qwen2", tied=False), "gguf:F16", stem="left")
    right = build(tmp_path, tiny("qwen2", tied=True), "hf:F16", stem="right")
    report = compared_files(left, right)
    assert_proven(report, "logits", Cause(KIND, KEY, declared=False, actual=True))


@pytest.mark.parametrize("operand", ["apr:F16", "apr-gguf:F16", "gguf:F16", "hf:F16"])
def test_stored_copy_of_the_embedding_is_a_tied_head(tmp_path: Path, operand: str) -> None:
    assert_clean(compared(tmp_path, tiny("qwen2", ffn=128, tied=True), "apr:F16", operand))


@pytest.mark.parametrize("fault", [faults.scaled("output.weight", 2.0), faults.zeroed("output.weight")])
def test_damaged_copy_of_the_embedding_is_still_a_tied_head(tmp_path: Path, fault: Any) -> None:
    report = compared(tmp_path, tiny("qwen2", ffn=128, tied=True), "apr:F16", "gguf:F16", fault)
    (found,) = report.findings
    assert (found.tensor, found.status, found.latent) == ("output.weight", "confirmed", False)
