"""Experts that llama.cpp runs in a GGUF of architectures whose class has none, or another name for that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_logits
from fixtures.restating import renamed, restated
from rosetta.errors import UnsupportedError
from rosetta.model import open_model
from rosetta.transformer import Transformer

pytestmark = [pytest.mark.requires_transformers, pytest.mark.requires_llamacpp]
IDS = [5, 9, 17, 33, 2, 8, 40, 100, 7, 31]


@pytest.mark.parametrize(
    ("recipe", "name"),
    [("granitemoe-shared", "granite"), ("mixtral", "minicpm"), ("mixtral", "mistral3")],
)
def test_experts_are_run_as_llamacpp_does(tmp_path: Path, recipe: str, name: str) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    under = renamed(file, tmp_path / f"{name}.gguf", name)
    theirs = llamacpp_logits(under, IDS)
    assert np.abs(Transformer(open_model(under))(IDS).numpy() - theirs).max() < 1e-5 * np.abs(theirs).max()
    fewer = restated(under, tmp_path / "fewer.gguf", {"expert_used_count": 1})
    (finding,) = compared_files(fewer, under, tokens=tuple(IDS)).findings
    assert (finding.kind, finding.status) == ("config.experts_used", "confirmed")


def test_experts_that_llamacpp_does_not_run_are_refused(tmp_path: Path) -> None:
    _, file = tiny_pair(tmp_path, "mixtral")
    with pytest.raises(UnsupportedError, match=r"refact\.expert_count is 8, and rosetta runs refact without"):
        open_model(renamed(file, tmp_path / "refact.gguf", "refact"))
