"""Tensors of a GGUF that llama.cpp loads and does not compute by: with them it gives the same logits, and so do we."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.architectures import CHECKPOINTS, RECIPES
from fixtures.canonical_gguf import tiny_pair
from fixtures.oracles import llamacpp_logits
from fixtures.restating import renamed, restated, with_tensors
from rosetta.architectures import Architecture, find_architecture
from rosetta.architectures.kimi_linear import KIMI_LINEAR
from rosetta.architectures.parts.readings import Stored
from rosetta.model import Model, open_model
from rosetta.transformer import Transformer

pytestmark = [pytest.mark.requires_transformers, pytest.mark.requires_llamacpp]
IDS = [5, 9, 17, 33, 2, 8, 40, 100, 7, 31]
CLOSE = 1e-5  # of the largest logit, in float32


def leaving() -> list[str]:
    """A recipe or checkpoint of each architecture of which llama.cpp leaves tensors alone."""
    found: dict[str, str] = {}
    for recipe in sorted([*RECIPES, *CHECKPOINTS]):
        own = find_architecture(recipe)
        if own is not None and own.llamacpp.idle:
            found.setdefault(own.gguf, recipe)
    return list(found.values())


def noise(*dims: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(dims)).normal(size=dims).astype(np.float32)


def biases(model: Model, architecture: Architecture) -> dict[str, NDArray[np.float32]]:
    """Those that llama.cpp leaves alone, for each matrix that the file has without one; of latent attention it loads
    none."""
    stored = model.container.tensors
    found = {}
    for name in architecture.llamacpp.idle:
        stem, _, suffix = name.rpartition(".")
        for prefix in ("", *(f"blk.{n}." for n in range(model.block_count))):
            matrix = stored.get(f"{prefix}{stem}.weight")
            latent = f"{prefix}attn_kv_a_mqa.weight" in stored
            if suffix == "bias" and matrix is not None and prefix + name not in stored and not latent:
                found[prefix + name] = noise(matrix.dims[0])
    return found


def agrees(path: Path) -> bool:
    ours, theirs = Transformer(open_model(path))(IDS).numpy(), llamacpp_logits(path, IDS)
    return bool(np.abs(ours - theirs).max() < CLOSE * np.abs(theirs).max())


@pytest.mark.parametrize("recipe", leaving())
def test_biases_that_llamacpp_leaves_alone_change_nothing(tmp_path: Path, recipe: str) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    model = open_model(file)
    more = biases(model, model.architecture)
    other = with_tensors(file, tmp_path / "more.gguf", more)
    assert more
    assert np.array_equal(llamacpp_logits(other, IDS), llamacpp_logits(file, IDS))
    assert np.array_equal(Transformer(open_model(other))(IDS), Transformer(model)(IDS))
    assert {*more} <= {*open_model(other).unread}


def test_factors_of_the_rotation_that_llamacpp_leaves_alone_change_nothing(tmp_path: Path) -> None:
    _, file = tiny_pair(tmp_path, "falcon-h1")
    pairs = open_model(file)["rope.dimension_count"] // 2
    assert agrees(with_tensors(file, tmp_path / "more.gguf", {"rope_freqs.weight": 2 + noise(pairs)}))


def test_a_projection_beside_its_parts_is_left_alone(tmp_path: Path) -> None:
    """Of Qwen3-Next llama.cpp reads the queries, keys, values and gate of old files only where there are no others."""
    _, file = tiny_pair(tmp_path, "qwen3next")
    stored = open_model(file).container.tensors
    more = {}
    for name, entry in stored.items():
        if name.endswith("attn_qkv.weight"):
            gate = stored[name.replace("attn_qkv", "attn_gate")]
            rows = entry.dims[0] + gate.dims[0]
            more[name.replace("attn_qkv", "ssm_in")] = noise(rows, entry.dims[1])
    assert more
    assert agrees(with_tensors(file, tmp_path / "more.gguf", more))


def test_sinks_of_a_layer_without_a_window_are_computed_by(tmp_path: Path) -> None:
    _, file = tiny_pair(tmp_path, "mimo2")
    model = open_model(file)
    lacking = [f"blk.{n}.attn_sinks.weight" for n in range(model.block_count)]
    heads = model["attention.head_count"]
    more = {name: noise(heads) for name in lacking if name not in model.container.tensors}
    assert more
    other = with_tensors(file, tmp_path / "more.gguf", more)
    assert agrees(other)
    assert not np.allclose(Transformer(open_model(other))(IDS), Transformer(model)(IDS), atol=1e-3)


def test_a_factor_is_multiplied_with_in_layers_of_latent_attention_alone(tmp_path: Path) -> None:
    _, file = tiny_pair(tmp_path, "kimi-linear")
    layers = range(open_model(file).block_count)
    more = {f"blk.{n}.attn_output.scale": np.full(1, 0.5, np.float32) for n in layers}
    assert agrees(with_tensors(file, tmp_path / "more.gguf", more))


def test_a_matrix_of_one_head_has_one_row() -> None:
    [reading] = KIMI_LINEAR.readings(Stored("ssm_beta", "weight", (128,), "gguf", 1, False), {}) or []
    assert (reading.name, reading.dims) == ("ssm_beta.weight", (1, 128))


@pytest.mark.parametrize("name", ["ernie4_5", "paddleocr"])
def test_a_count_of_experts_that_llamacpp_leaves_alone_is_no_refusal(tmp_path: Path, name: str) -> None:
    _, file = tiny_pair(tmp_path, "ernie4_5")
    keys = {"expert_count": 2, "expert_used_count": 1, "rope.dimension_sections": [2, 3, 3, 0]}
    under = renamed(file, tmp_path / "under.gguf", name)
    assert agrees(restated(under, tmp_path / "counted.gguf", keys))


@pytest.mark.parametrize(
    ("recipe", "name", "experts"), [("nemotron_h", "nemotron_h_moe", 0), ("nemotron_h_moe", "nemotron_h", 4)]
)
def test_the_count_of_experts_says_which_nemotron_it_is(
    tmp_path: Path, recipe: str, name: str, experts: int
) -> None:
    _, file = tiny_pair(tmp_path, recipe)
    under = renamed(file, tmp_path / "under.gguf", name)
    if not experts:
        under = restated(under, tmp_path / "stated.gguf", {"expert_count": experts})
    assert bool(open_model(under).config.get("expert_count")) is bool(experts)
    assert agrees(under)
