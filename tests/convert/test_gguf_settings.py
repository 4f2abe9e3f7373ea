"""Keys of a converted GGUF that say nothing new to our own reader, and that llama.cpp goes by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from fixtures.architectures import RECIPES
from fixtures.recipes import build_folder
from rosetta.compare.options import Options
from rosetta.convert import convert

pytestmark = pytest.mark.requires_transformers


def layers_of(config: dict[str, Any], kind: str) -> list[bool]:
    """Which layers are of a kind, as config.json lists them."""
    return [each == kind for each in config["layer_types"]]


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        (
            "qwen3vl",
            "qwen3vl.n_deepstack_layers",
            lambda c: len(c["vision_config"]["deepstack_visual_indexes"]),
        ),
        ("qwen35", "qwen35.attention.recurrent_layers", lambda c: layers_of(c, "linear_attention")),
        ("olmo3", "olmo2.attention.sliding_window_pattern", lambda c: layers_of(c, "sliding_attention")),
        ("nemotron_h_moe", "nemotron_h_moe.expert_shared_count", lambda c: c["n_shared_experts"]),
        (
            "kimi-linear",
            "kimi-linear.leading_dense_block_count",
            lambda c: c["mlp_layer_types"].count("dense"),
        ),
    ],
    ids=["of the part that sees", "recurrent", "windows", "one that is as wide as two", "behind another"],
)
def test_key_says_what_config_json_does(tmp_path: Path, name: str, key: str, said: Any) -> None:
    folder = build_folder(tmp_path / "hf", RECIPES[name])
    convert(str(folder), tmp_path / "out.gguf", Options(), verify=False)
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    config = json.loads((folder / "config.json").read_text())
    assert fields[key].contents() == said(config)


def test_number_for_each_layer_that_gguf_has_once_is_the_commonest_and_said_to_be_lost(
    tmp_path: Path,
) -> None:
    folder = build_folder(tmp_path / "hf", RECIPES["granite-swa-bases"])
    lost = convert(str(folder), tmp_path / "out.gguf", Options(), verify=False).done.lost
    assert [said.partition(" is ")[0] for said in lost] == ["rope.freq_base", "rope.layers"]
    keys = gguf.GGUFReader(tmp_path / "out.gguf").fields
    assert keys["granite_swa.rope.freq_base"].contents() == 10000.0


def test_size_of_heads_with_a_window_is_stated_only_where_the_architecture_has_another(
    tmp_path: Path,
) -> None:
    """As llama.cpp's converter does (conversion/gemma.py)."""
    for name, stated in (("gemma2", False), ("gemma4", True)):
        folder = build_folder(tmp_path / name, RECIPES[name])
        convert(str(folder), tmp_path / f"{name}.gguf", Options(), verify=False)
        keys = gguf.GGUFReader(tmp_path / f"{name}.gguf").fields
        assert (f"{name}.attention.key_length_swa" in keys) == stated


def test_what_is_said_of_no_layer_is_not_said_to_be_lost(tmp_path: Path) -> None:
    """No layer has a window, and no pair of dims a section of its own."""
    for name in ("dots1", "glm4"):
        folder = build_folder(tmp_path / name, RECIPES[name])
        assert convert(str(folder), tmp_path / f"{name}.gguf", Options(), verify=False).done.lost == []
        assert convert(str(tmp_path / f"{name}.gguf"), tmp_path / f"{name}.apr", Options()).done.lost == []
