"""Norms whose weight is each head's own, against torch's LayerNorm of that head; and how far LayerNorm may stray."""

from __future__ import annotations

from typing import Literal, cast

import pytest
import torch

from fixtures.steps import Exact, HeldStep
from rosetta.ops.norm import UNITS, HeadNorms, Norm
from rosetta.ops.op import HALF_ULP, Rounding, Spread

HEADS, SIZE = 3, 8
SETTINGS = {"attention.head_count": HEADS, "attention.layer_norm_epsilon": 1e-5}
NORM = HeadNorms("attn_q_norm", "attention.layer_norm_epsilon", width=(SIZE,), kind="layer", bias=False)


def test_each_head_has_a_weight_of_its_own() -> None:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(5, HEADS, SIZE, generator=draw, dtype=torch.float64)
    weights = [torch.randn(SIZE, generator=draw, dtype=torch.float64) for _ in range(HEADS)]
    held = {f"attn_q_norm.{head}.weight": weight for head, weight in enumerate(weights)}
    y = NORM.compute(HeldStep(SETTINGS, held), x)
    for head, weight in enumerate(weights):
        wanted = torch.nn.functional.layer_norm(x[:, head], (SIZE,), weight, eps=1e-5)
        torch.testing.assert_close(y[:, head], wanted, atol=1e-12, rtol=0)


def test_a_file_without_them_leaves_the_heads() -> None:
    x = torch.randn(5, HEADS, SIZE)
    assert NORM.compute(HeldStep(SETTINGS, {}), x) is x


def test_it_reads_a_tensor_a_head() -> None:
    assert NORM.tensors(SETTINGS).optional == {f"attn_q_norm.{head}.weight": (SIZE,) for head in range(HEADS)}


@pytest.mark.parametrize("size", [64, 1024])
def test_a_value_and_a_mean_next_to_nothing_stray_by_the_rounding_of_the_others(size: int) -> None:
    norm = Norm("attn_norm", "attention.layer_norm_epsilon", width=(size,), kind="layer", bias=False)
    x = torch.randn(400, size, generator=torch.Generator().manual_seed(5))
    x -= x.mean(-1, keepdim=True)  # but for its rounding
    x[:, 7] = 0
    weight = {"attn_norm.weight": torch.ones(size)}
    step = HeldStep(SETTINGS, weight)
    exact = norm.compute(HeldStep(SETTINGS, {n: w.double() for n, w in weight.items()}), x.double())
    error = (norm.compute(step, x).double() - exact).abs()[:, 7]
    sigma = UNITS * HALF_ULP[torch.float32] * norm._terms(step, x)[:, 7]
    assert (error / sigma).max() < 4
    assert (error / sigma).square().mean().sqrt() > 0.1


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_noise_of_what_is_normed_is_that_of_its_mean_and_length_too(kind: Literal["rms", "layer"]) -> None:
    """A value next to nothing, whose own rounding is next to nothing, strays by what LayerNorm takes off it."""
    size, draw = 32, torch.Generator().manual_seed(9)
    norm = Norm("attn_norm", "attention.layer_norm_epsilon", width=(size,), kind=kind, bias=False)
    x = torch.randn(1, size, generator=draw, dtype=torch.float64)
    x[:, 3] = 1e-4
    variance = (1e-3 * x).square()
    strayed = x + variance.sqrt() * torch.randn(4000, size, generator=draw, dtype=torch.float64)
    step = HeldStep(
        SETTINGS, {"attn_norm.weight": torch.rand(size, generator=draw, dtype=torch.float64) + 0.5}
    )
    y = norm.compute(step, x)
    before = Spread(variance, torch.zeros(()))
    explained = norm.spread(step, cast(Rounding, Exact()), y, x, before=before).explained
    measured = (norm.compute(step, strayed) - y).square().mean(0, keepdim=True)
    assert 0.8 < (measured / explained).max() < 1.2
