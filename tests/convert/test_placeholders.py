"""Tensors that llama.cpp asks for and does not compute by: zeros stand for them where a folder has none."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from fixtures.architectures import RECIPES
from fixtures.oracles import llamacpp_logits
from fixtures.recipes import build_folder
from rosetta.compare.options import Options
from rosetta.convert import convert
from rosetta.lint.engine import linted, selected_rules
from rosetta.model import open_model


@pytest.mark.requires_transformers
@pytest.mark.requires_llamacpp
def test_layers_of_gemma3n_that_share_keys_have_some_for_llamacpp(tmp_path: Path) -> None:
    """transformers 5 saves none of them; llama.cpp refused the file."""
    folder = build_folder(tmp_path / "hf", RECIPES["gemma3n"])
    shared = range(20, open_model(folder).block_count)  # llama.cpp, gemma3n.cpp: n_layer_kv_from_start
    assert f"blk.{shared[0]}.attn_k.weight" not in open_model(folder).weights
    done = convert(str(folder), tmp_path / "out.gguf", Options(diagnose=False))
    assert done.comparison is not None
    assert done.comparison.findings == []
    stored = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    for stem in ("attn_k", "attn_v", "attn_k_norm"):
        assert all(not stored[f"blk.{layer}.{stem}.weight"].any() for layer in shared)
    assert llamacpp_logits(tmp_path / "out.gguf", [5, 6, 7]).shape == (3, 384)
    assert list(linted(tmp_path / "out.gguf", rules=selected_rules(), values=True)) == []
