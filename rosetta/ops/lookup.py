"""Rows of a table: the embedding of tokens and of positions.

Letters: T = tokens, H = embedding length, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.lazily import torch
from rosetta.ops.op import Dims, Op, Rounding, Settings, Size, Spread, Step, Tensors, size, unit_of
from rosetta.ops.pointwise import ADD_UNITS

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Embedding(Op):
    """The rows of the tokens, [T] -> [T, H], and those of their positions where the model has a table of them.

    Args:
        stem: of the table's name.
        positions: stem of the table of positions; None: there is none.
        rows, columns: V and H.
        first: row of the table of positions that the first token of a text reads.
    """

    stem: str = "token_embd"
    positions: str | None = None
    rows: Size = "vocab_size"
    columns: Size = "embedding_length"
    first: int = 0

    @property
    def shape(self) -> tuple[Size, ...]:
        return (self.columns,)

    def tensors(self, c: Settings) -> Tensors:
        rows, columns = size(c, self.rows), size(c, self.columns)
        optional: Dims = {} if self.positions is None else {f"{self.positions}.weight": (-1, columns)}
        return Tensors({f"{self.stem}.weight": (rows, columns)}, optional)

    def _tables(self, s: Step, tokens: Tensor) -> list[tuple[str, Sequence[int]]]:
        found: list[tuple[str, Sequence[int]]] = [(f"{self.stem}.weight", tokens.tolist())]
        if self.positions is not None and s.has(f"{self.positions}.weight"):
            places = s.positions(len(tokens))
            rows = range(places.start + self.first, places.stop + self.first)
            found.append((f"{self.positions}.weight", rows))
        return found

    def compute(self, s: Step, *inputs: Tensor) -> Tensor:
        first, *others = (s.rows(name, rows) for name, rows in self._tables(s, inputs[0]))
        for x in others:
            first = first + x
        return first

    def spread(
        self, s: Step, rounding: Rounding, y: Tensor, *inputs: Tensor, before: Spread | None = None
    ) -> Spread:
        total = torch.zeros(y.shape, device=y.device)
        for name, rows in self._tables(s, inputs[0]):
            if rounding.explains(s.full_name(name)):
                for summand in rounding.row_variance(s.full_name(name), list(rows)):
                    total += summand.to(y.device)
        return Spread(total, ADD_UNITS * unit_of(rounding) * y.float().abs())
