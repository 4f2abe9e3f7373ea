"""A for A_log, and A mapped twice: told by the other side's values, on files that llama.cpp's names are in."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from fixtures.architectures import RECIPES
from fixtures.canonical_gguf import write_canonical
from fixtures.causes import Cause, assert_proven
from fixtures.comparing import compared_files
from fixtures.recipes import build_folder
from rosetta.diagnose.hypotheses.transformed import FUNCTIONS, Transformed
from rosetta.model import open_model

pytestmark = pytest.mark.requires_transformers
KIND, TENSOR = "value.transformed", "blk.1.ssm_a"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return build_folder(tmp_path_factory.mktemp("mamba2") / "hf", RECIPES["mamba2"])


def damaged(folder: Path, path: Path, function: str) -> Path:
    """The folder's model as GGUF, one A replaced by a function of it."""
    write_canonical(path, open_model(folder))
    reader = gguf.GGUFReader(path, "r+")
    values = next(tensor for tensor in reader.tensors if tensor.name == TENSOR).data
    damage = {"log": lambda a: np.log(-a), "twice": lambda a: -np.exp(a), "size": lambda a: -np.exp(-a)}
    values[...] = damage[function](values)
    reader.data.flush()
    return path


@pytest.mark.parametrize("function", ["log", "twice", "size"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_function_is_found_and_proven(folder: Path, tmp_path: Path, function: str, side: str) -> None:
    broken = damaged(folder, tmp_path / "model.gguf", function)
    files, other = ((broken, folder), "right") if side == "left" else ((folder, broken), "left")
    report = compared_files(*files, reference=other)
    assert_proven(report, "layers.1.ssm_scan", Cause(KIND, TENSOR, side))  # type: ignore[arg-type]
    assert report.findings[0].evidence.from_reference is None


def test_other_values_are_no_function_of_these(folder: Path, tmp_path: Path) -> None:
    path = write_canonical(tmp_path / "model.gguf", open_model(folder))
    reader = gguf.GGUFReader(path, "r+")
    values = next(tensor for tensor in reader.tensors if tensor.name == TENSOR).data
    values[...] = np.roll(values, 3, axis=0)
    reader.data.flush()
    report = compared_files(folder, path, reference="left")
    assert report.findings
    assert KIND not in [found.kind for found in report.findings]


@pytest.mark.parametrize(
    ("name", "inverse"), [("-exp", "log(-x)"), ("exp", "log"), ("softplus", "softplus⁻¹")]
)
def test_functions_undo_each_other(name: str, inverse: str) -> None:
    x = torch.linspace(0.1, 3, 20, dtype=torch.float64)
    assert (FUNCTIONS[inverse].apply(FUNCTIONS[name].apply(x)) - x).abs().max() < 1e-9


def test_noise_is_carried_through_the_function() -> None:
    x, sigma = torch.linspace(-2, 1, 50), torch.full((50,), 1e-3)
    carried = Transformed("-exp").sigma(sigma, x, 0)
    assert torch.allclose(carried, x.exp() * 1e-3, rtol=1e-2)
