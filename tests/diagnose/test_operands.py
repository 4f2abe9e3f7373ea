"""A folder that transformers runs by another one's class, beside a file that a converter made of that class."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.canonical_gguf import tiny_pair, write_canonical
from fixtures.comparing import compared_files
from fixtures.oracles import llamacpp_logits, transformers_logits
from rosetta.containers import open_container
from rosetta.model import build_model

IDS = tuple(range(40, 60))


@pytest.mark.requires_transformers
def test_it_is_compared_with_a_file_of_either_architecture(tmp_path: Path) -> None:
    folder, own = tiny_pair(tmp_path, "exaone")
    of_class = write_canonical(
        tmp_path / "class.gguf", build_model(open_container(folder), {"architecture": "llama"})
    )
    for file in (own, of_class):
        for left, right in ((file, folder), (folder, file)):
            report = compared_files(left, right, tokens=IDS)
            assert (report.verdict, report.findings) == ("match", [])


@pytest.mark.requires_transformers
@pytest.mark.requires_llamacpp
def test_what_is_written_of_the_class_is_what_transformers_computes(tmp_path: Path) -> None:
    folder, _ = tiny_pair(tmp_path, "exaone")
    file = write_canonical(
        tmp_path / "llama.gguf", build_model(open_container(folder), {"architecture": "llama"})
    )
    assert abs(llamacpp_logits(file, IDS) - transformers_logits(folder, IDS)).max() < 1e-4
