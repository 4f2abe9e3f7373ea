"""What is seen of rows in one pass, against sums in float64."""

from __future__ import annotations

import torch

from rosetta.compare.row_sums import pass_over, row_sums


def test_size_of_a_row_tells_the_product_with_its_error() -> None:
    random = torch.Generator().manual_seed(1)
    b = torch.randn(64, 8960, generator=random)
    a = 0.999 * b + 0.005 * torch.randn(64, 8960, generator=random)
    explained, widths = (a - b).square(), torch.full((8960 // 32,), 32)
    sums = row_sums(pass_over(a, b, explained, 32, proportional=False), widths)
    exact = ((a.double() - b.double()) * b.double()).sum(1)
    assert float(((sums.product - exact).abs() / sums.spread.sqrt()).max()) < 0.5
    equal = row_sums(pass_over(b, b, explained, 32, proportional=False), widths)
    assert float((equal.product.abs() / equal.spread.sqrt()).max()) < 1
