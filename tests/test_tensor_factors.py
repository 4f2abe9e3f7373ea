"""Factors beside matrices, as NVFP4 files have them: held to llama.cpp's logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures import ModelSpec, build, model_spec
from fixtures.contents import FileContents
from fixtures.oracles import llamacpp_logits
from rosetta.containers.container import TensorInput
from rosetta.errors import DamagedFileError
from rosetta.model import open_model
from rosetta.transformer import Transformer

IDS = (17, 10, 17, 28, 300, 5, 63, 299)
ROUNDING = 5e-5  # of the logits' deviation, see test_transformer


def small(architecture: str) -> ModelSpec:
    return model_spec(architecture, layers=2, hidden=64, head_dim=16, ffn=80)


def factors(*stems: str, count: int = 1) -> Callable[[FileContents], FileContents]:
    """A factor beside each matrix of these stems, another in each."""

    def fault(contents: FileContents) -> FileContents:
        tensors = dict(contents.tensors)
        for stem in stems:
            for layer in range(contents.spec.layers):
                name, value = f"blk.{layer}.{stem}.scale", 0.5 + 0.1 * len(tensors) % 1
                data = np.full(count, value, np.float32).view(np.uint8)
                tensors[name] = TensorInput(name, "F32", (count,), data)
        return replace(contents, tensors=tensors)

    return fault


ALL = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


@pytest.mark.requires_llamacpp
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_factors_are_those_that_llama_cpp_multiplies_with(tmp_path: Path, architecture: str) -> None:
    """It leaves those of qwen2's network alone."""
    pytest.importorskip("llama_cpp")
    path = build(tmp_path, small(architecture), "gguf:F32", factors(*ALL))
    ours, theirs = Transformer(open_model(path))(IDS).numpy(), llamacpp_logits(path, IDS)
    assert np.abs(ours - theirs).max() <= ROUNDING * theirs.std()


def test_factor_is_part_of_its_matrix(tmp_path: Path) -> None:
    plain = open_model(build(tmp_path / "a", small("llama"), "gguf:F32"))
    model = open_model(build(tmp_path / "b", small("llama"), "gguf:F32", factors("ffn_up", "attn_q")))
    name = "blk.1.ffn_up.weight"
    factor = np.frombuffer(model.container.read("blk.1.ffn_up.scale"), np.float32)[0]
    np.testing.assert_allclose(
        model.weights[name].values(), plain.weights[name].values() * factor, rtol=2.0**-23
    )
    assert model.unknown == ()
    [edit] = model.weights[name].values_edits
    np.testing.assert_allclose(
        edit.stored(model.weights[name].values(), 0), plain.weights[name].values(), rtol=2.0**-22
    )


def test_factor_that_llama_cpp_leaves_alone_is_named(tmp_path: Path) -> None:
    model = open_model(build(tmp_path, small("qwen2"), "gguf:F32", factors("ffn_up")))
    assert model.unknown == ("blk.0.ffn_up.scale", "blk.1.ffn_up.scale")
    assert not model.weights["blk.0.ffn_up.weight"].values_edits


def test_more_factors_than_matrices_are_refused(tmp_path: Path) -> None:
    path = build(tmp_path, small("llama"), "gguf:F32", factors("ffn_up", count=3))
    with pytest.raises(DamagedFileError, match=r"blk\.0\.ffn_up\.scale.*holds 3 factors .* takes 1"):
        open_model(path)
