"""Products with a matrix: how far what two float32 runtimes make of them may differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from fixtures import model_spec, pair
from fixtures.comparing import compared_files
from fixtures.steps import HeldStep
from rosetta.ops.linear import Linear
from rosetta.ops.op import Part, Rounding


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


def test_ranges_of_rows_are_judged_together_as_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where their products were made when the copies were compared."""
    files = pair(tmp_path, model_spec("qwen2", layers=1), "gguf:BF16", "gguf:Q4_K")
    monkeypatch.setattr("rosetta.weight.WEIGHTS_AT_ONCE", 1 << 12)
    own, counted = Linear.parts, 0

    def counting(*given: Any) -> list[Part]:
        nonlocal counted
        counted += len(found := own(*given))
        return found

    monkeypatch.setattr(Linear, "parts", counting)
    together, count = compared_files(*files), counted
    monkeypatch.setattr("rosetta.ops.linear.TOGETHER", 0)
    alone = compared_files(*files)
    assert counted - count > 2 * count
    assert together.verdict == alone.verdict
    for one, other in zip(together.stages, alone.stages, strict=True):
        if other.local is not None:
            assert one.local is not None
            assert one.local.model_dump() == pytest.approx(other.local.model_dump(), rel=1e-5), one.name
