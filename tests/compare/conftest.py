"""What tests of comparisons share."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rosetta.weight import Weight


@pytest.fixture
def decoded_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each piece of a weight that is decoded from now on."""
    counts: list[int] = []
    plain = Weight.values

    def counted(self: Weight, *args: Any, **named: Any) -> torch.Tensor:
        found = plain(self, *args, **named)
        counts.append(len(found))
        return found

    monkeypatch.setattr(Weight, "values", counted)
    return counts
