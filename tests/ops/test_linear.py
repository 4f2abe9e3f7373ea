"""Products with a matrix: how far what two float32 runtimes make of them may differ."""

from __future__ import annotations

from typing import cast

import torch

from fixtures.steps import HeldStep
from rosetta.ops.linear import Linear
from rosetta.ops.op import Rounding


class EqualWeights:
    """Both sides have the very same weights: arithmetic alone is rounded."""

    dtype = torch.float32

    def explains(self, name: str) -> bool:
        return False


def test_a_sum_that_is_mostly_bias_is_rounded_as_the_bias_is() -> None:
    """Products of 1e-6 beside biases of 0.2: a runtime that adds in another order differs by a unit of the sum."""
    draw = torch.Generator().manual_seed(3)
    x = 1e-3 * torch.randn(9, 64, generator=draw)
    tensors = {
        "ffn_up.weight": 1e-3 * torch.randn(48, 64, generator=draw),
        "ffn_up.bias": 0.2 * torch.randn(48, generator=draw),
    }
    op, step = Linear("ffn_up", rows=48, columns=64), HeldStep({}, tensors)
    y = op.compute(step, x)
    other = tensors["ffn_up.bias"].repeat(9, 1)
    for start in range(0, 64, 8):  # the bias first, then eight products at a time
        other = other + x[:, start : start + 8] @ tensors["ffn_up.weight"][:, start : start + 8].T
    gap = (y - other).abs()
    assert gap.max() > 1e-8
    sigma = op.spread(step, cast(Rounding, EqualWeights()), y, x).sigma
    assert float((gap / sigma).max()) < 5
    (part,) = op.parts(step, cast(Rounding, EqualWeights()), y, x)
    assert torch.equal(part.sigma(), sigma)
    assert float(sigma.max()) < 1e-7, "no wider than the sum's own rounding"
