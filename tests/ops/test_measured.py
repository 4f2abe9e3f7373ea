"""A measured spread against a law."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fixtures.state_steps import INNER, T, drawn, step
from rosetta.ops.measured import measured
from rosetta.ops.recurrent import Convolution


class Known:
    """Rounding of which one weight's is known."""

    dtype = torch.float32

    def __init__(self, name: str, variance: Tensor) -> None:
        self.name, self.of = name, variance

    def explains(self, name: str) -> bool:
        return name == self.name

    def variance(self, name: str, cache: Any, start: int = 0, stop: int | None = None) -> Tensor:
        return self.of

    def explained(self, name: str, cache: Any, x: Tensor, rows: tuple[int, int]) -> Tensor:
        return x.square() @ self.of[slice(*rows)].T

    def row_variance(self, name: str, rows: Any) -> list[Tensor]:
        return [self.of[list(rows)]]

    def agree(self, key: str) -> bool:
        return True


def test_measured_spread_is_that_of_many_moved_weights() -> None:
    """Of a convolution without activation the variance has a law: Σ x² σ²."""
    x, weight = drawn(T, INNER), drawn(INNER, 4, seed=1)
    op = Convolution("c", channels="ssm.inner_size", activated=False)
    sigma = 0.01 * (1 + torch.arange(INNER, dtype=torch.float64))[:, None].expand(INNER, 4)
    found = measured(op, step({"c.weight": weight}), Known("c.weight", sigma.square()), x, units=1.0)
    seen = torch.cat([x.new_zeros(3, INNER), x]).square()
    law = sum(seen[j : j + T] * sigma[:, j].square() for j in range(4))
    ratio = (found.explained.mean(0) / torch.as_tensor(law).mean(0)).sqrt()
    assert ratio.min() > 0.5
    assert ratio.mean() < 2
    assert 0 < found.floor.max() < 1e-5 * x.abs().max()
