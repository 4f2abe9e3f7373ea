"""Norms whose weight is each head's own, against torch's LayerNorm of that head."""

from __future__ import annotations

import torch

from fixtures.steps import HeldStep
from rosetta.ops.norm import HeadNorms

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
