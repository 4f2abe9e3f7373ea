"""The spectrum of a difference: noise has an edge that it does not pass, an adapter that is not merged has a few values
beyond it, another model has a long slope.

Letters: R = rows, C = columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rosetta.compare.spectrum import edge_of

FIELD = "spectrum"
SHOWN = 24  # leading values
MOST = 512  # rows and columns, evenly spaced: the work grows with the third power


class Measure:
    """Leading singular values of the difference over (√R + √C) × its rms, the largest first.

    Of a large matrix evenly spaced rows and columns stand for all: rank stays, and so does the edge of noise.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.every_row, self.every_column = -(-rows // MOST), -(-columns // MOST)
        self.rows: list[Tensor] = []

    def add(self, start: int, reference: Tensor, other: Tensor) -> None:
        """Keep the difference of some of these rows."""
        a, b = (
            x[-start % self.every_row :: self.every_row, :: self.every_column] for x in (reference, other)
        )
        self.rows.append(a.double() - b)

    def result(self) -> list[float] | None:
        """None where nothing differs there, or something is not finite."""
        gap = torch.cat(self.rows)  # [R, C]
        variance = float(gap.square().mean()) if min(gap.shape) > 1 else 0.0
        if not 0 < variance < float("inf"):
            return None
        small = gap @ gap.T if gap.shape[0] <= gap.shape[1] else gap.T @ gap
        values = torch.linalg.eigvalsh(small).clamp(min=0).sqrt().flip(0)[:SHOWN]
        found: list[float] = (values / edge_of(gap.shape[0], gap.shape[1], variance)).tolist()
        return found
