"""The rows behind the vocabulary, which a comparison of two vocabulary sizes leaves out and a repaired file keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rosetta.diagnose.edits import FromOther
from rosetta.model import Model
from rosetta.repair.planned import EMBEDDING, HEAD
from rosetta.row_order import Part
from rosetta.weight import Weight

KEY = "vocab_size"  # the one setting that a comparison overrides without a finding, where rows are padding


@dataclass(frozen=True)
class FirstRows:
    """An edit that takes values from a shorter weight: rows behind it stay as they are.

    Args:
        edit: what is done to the rows.
        rows: how many the shorter weight has.
    """

    edit: FromOther
    rows: int

    def touches(self, start: int, stop: int) -> bool:
        """See `ValuesEdit.touches`."""
        return self.edit.touches(start, stop)

    def values(self, values: Tensor, start: int) -> Tensor:
        """See `ValuesEdit.values`."""
        count = max(0, min(len(values), self.rows - start))
        return torch.cat([self.edit.values(values[:count], start), values[count:]]) if count else values

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """See `ValuesEdit.sigma`."""
        count = max(0, min(len(values), self.rows - start))
        if not count:
            return sigma
        return torch.cat([self.edit.sigma(sigma[:count], values[:count], start), sigma[count:]])


def with_padding(base: Model, repaired: Model) -> dict[str, Weight]:
    """The repaired weights, those of the vocabulary with all rows that the file has."""
    kept = repaired.overrides.get(KEY, base[KEY])
    rows = (kept, base[KEY] - kept)
    weights = dict(repaired.weights)
    for name in (EMBEDDING, HEAD):
        weight = weights.get(name)
        if rows[1] > 0 and weight is not None and weight.part == Part(0, rows):
            edits = tuple(FirstRows(e, kept) if isinstance(e, FromOther) else e for e in weight.values_edits)
            weights[name] = replace(weight, part=None, values_edits=edits)
    return weights
