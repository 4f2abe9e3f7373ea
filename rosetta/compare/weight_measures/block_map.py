"""Where in a matrix its two copies differ: the size of the difference in each of a few hundred regions."""

from __future__ import annotations

import torch
from torch import Tensor

from rosetta.compare.results import BlockMap

FIELD = "block_map"
MOST_ROWS, MOST_COLUMNS = 24, 32  # regions: 6 KB of a report


class Measure:
    """Rms of the difference in each region over the rms of the whole reference."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.high, self.wide = -(-rows // MOST_ROWS), -(-columns // MOST_COLUMNS)
        regions = -(-rows // self.high), -(-columns // self.wide)
        self.squares = torch.zeros(regions, dtype=torch.float64)
        self.size = 0.0  # sum of squares of the reference

    def add(self, start: int, reference: Tensor, other: Tensor) -> None:
        """Sum the squares of these rows up in their regions."""
        gap = (reference - other).square_()
        padded = torch.nn.functional.pad(gap, (0, -self.columns % self.wide))
        of_rows = padded.view(len(gap), -1, self.wide).sum(-1, dtype=torch.float64)
        self.squares.index_add_(0, torch.arange(start, start + len(gap)) // self.high, of_rows)
        self.size += float(torch.linalg.vector_norm(reference, dim=-1).double().square().sum())

    def result(self) -> BlockMap | None:
        """None where the reference is all zero or there is nothing finite to say."""
        total = self.rows * self.columns
        if not 0 < self.size < float("inf"):
            return None
        counts = torch.outer(_counts(self.rows, self.high), _counts(self.columns, self.wide))
        values = (self.squares / counts / (self.size / total)).sqrt()
        return BlockMap(
            rows=self.rows,
            columns=self.columns,
            row_step=self.high,
            column_step=self.wide,
            values=values.tolist(),
        )


def _counts(length: int, step: int) -> Tensor:
    """How many of `length` lie in each region of `step`."""
    return (length - torch.arange(0, length, step)).clamp(max=step).double()
