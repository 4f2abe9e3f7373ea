"""Tensors that are read in different ways and were exchanged in the file are one finding, described and proven."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.canonical_gguf import tiny_pair
from fixtures.comparing import compared_files

pytestmark = pytest.mark.requires_transformers
KEYS, VALUES = (f"blk.1.attn_{part}_b.weight" for part in "kv")


def test_keys_and_values_of_latent_attention_exchanged(tmp_path: Path) -> None:
    folder, file = tiny_pair(tmp_path, "deepseek2-v3")
    data = file.read_bytes()
    aside = KEYS.replace("attn", "ATTN")  # names of one length
    for before, after in ((KEYS, aside), (VALUES, KEYS), (aside, VALUES)):
        data = data.replace(before.encode(), after.encode())
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(data)
    report = compared_files(broken, folder)
    assert report.verdict == "divergent"
    assert [(f.kind, f.tensor, f.partner, f.side, f.status) for f in report.findings] == [
        ("value.swapped", KEYS, VALUES, "left", "confirmed")
    ]
    assert report.first_divergence is not None
    assert report.first_divergence.name == "layers.1.k"
