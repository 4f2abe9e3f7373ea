"""Gemma 3n at sizes that are unlike each other: what separates it from transformers is rounding, and nothing else."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.architectures import RECIPES
from fixtures.recipes import build_folder
from rosetta.model import open_model
from rosetta.transformer import Transformer

pytestmark = [pytest.mark.sweep, pytest.mark.requires_transformers]
IDS = [5, 9, 17, 33, 2, 8, 40, 100, 7, 31, 64, 12]
SIZES = {
    "num_attention_heads": 8,
    "head_dim": 24,
    "laurel_rank": 4,
    "hidden_size": 48,
    "hidden_size_per_layer_input": 24,
}


class Exact:
    """Stands for torch in transformers' module: what it would compute in float32 it computes in float64, but for the
    constants that are held in float32 here too."""

    float32 = float = torch.float64

    @staticmethod
    def tensor(value: Any, dtype: Any = None, device: Any = None) -> torch.Tensor:
        return torch.tensor(value, dtype=torch.float32, device=device)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class Constants:
    """Stands for math there: 1/√2 is a float32, as a setting is."""

    @staticmethod
    def sqrt(value: float) -> float:
        return float(1 / np.float64(np.float32(value**-0.5)))

    def __getattr__(self, name: str) -> Any:
        return getattr(math, name)


def test_it_is_transformers_maths_in_float64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 the two are 1e-3 apart: 25 narrow layers, whose gates shut at a threshold, make a rounding grow."""
    from transformers import AutoModelForCausalLM
    from transformers.models.gemma3n import modeling_gemma3n

    recipe = RECIPES["gemma3n"]
    folder = build_folder(tmp_path / "hf", replace(recipe, arguments={**recipe.arguments, **SIZES}))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    for name, held in model.named_buffers():
        if "inv_freq" not in name:
            held.copy_(held.to(torch.float32).double())
    rotation = model.model.rotary_emb
    for name, _ in list(rotation.named_buffers()):
        base = rotation.config.rope_parameters[name.split("_attention")[0] + "_attention"]["rope_theta"]
        size = rotation.config.head_dim
        setattr(rotation, name, base ** -(torch.arange(0, size, 2, dtype=torch.float64) / size))
    for module in model.modules():
        if hasattr(module, "eps"):
            module.eps = float(np.float32(module.eps))
    monkeypatch.setattr(modeling_gemma3n, "torch", Exact())
    monkeypatch.setattr(modeling_gemma3n, "math", Constants())
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    with torch.no_grad():
        theirs = model.eval()(torch.tensor([IDS])).logits[0]
    ours = Transformer(open_model(folder), dtype=torch.float64)(IDS)
    assert (ours - theirs).abs().max() < 1e-9
