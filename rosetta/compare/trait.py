"""One thing in which the difference of two copies is no rounding, and the limits that several tests share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LEAST = 32  # rows and columns: fewer are no sample of anything
ROW_DEVIATIONS = 8.0  # of one row or column, in standard deviations
DEVIATIONS = 6.0  # of the mean of so many independent errors
FITTED_DEVIATIONS = 3.0  # of all rows or columns by their root mean square, where errors are not independent
COARSE = 0.015  # D of three bits and less
COARSER = 1.6  # times as much rows and columns may be off from there on
# Their encoders take several weights for one code, and search scale and code by turns.
CODEBOOKS = ("IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_S", "IQ1_M")

# Rows of a table may be equal, of tokens that no text had, and so are their errors: rank says nothing there.
TABLES = ("token_embd.weight", "output.weight", "position_embd.weight")

# Shrinkage κ: an encoder's error is −κ·D of the weight, D = |e|² / |w|². Rounding to the nearest step has κ = 0, a
# scale of least squares κ = 1, clipping what does not matter more than that; no encoder makes weights larger.
# Largest one with a margin, of plain encoders and of such as weigh errors by importance: blocks do not always tell.
LARGEST_SHRINKAGE = {
    "Q2_K": 1.6,
    "Q3_K": 2.0,
    "Q5_0": 4.0,
    "Q5_1": 4.0,
    "Q5_K": 5.0,
    "Q6_K": 12.0,
    "Q8_0": 2.0,
    "APR_Q8": 2.0,
}
OTHER_SHRINKAGE = 2.8

Kind = Literal[
    "factor",
    "row_factors",
    "column_factors",
    "group_factors",
    "offset",
    "row_offsets",
    "column_offsets",
    "group_offsets",
    "rows",
    "rank",
    "order",
]
SAID: dict[Kind, str] = {
    "factor": "the coarser copy is {value:.5g} times the finer one, which is outside what its encoder does",
    "row_factors": "rows differ by factors of their own: {value:.3g} standard deviations, {limit:.3g} are noise",
    "column_factors": "columns differ by factors of their own: {value:.3g} standard deviations, {limit:.3g} are noise",
    "group_factors": "neighbours in a row have errors that are multiples of them: {value:.3g} of what chance has",
    "group_offsets": "neighbours in a row have errors of one sign: their mean is {value:.3g} of what chance has",
    "offset": "the errors have a mean of {value:.3g} times their size",
    "row_offsets": "the errors of a row have a mean of {value:.3g} times their size",
    "column_offsets": "the errors of a column have a mean of {value:.3g} times their size",
    "rows": "a row has no more than {value:.2g} of its counterpart in it",
    "rank": "the difference has a part of low rank: its largest singular value is {value:.3g} of what noise has",
    "order": "{value:.2g} of the levels are not those of these weights: they were rounded from other ones",
}


@dataclass(frozen=True)
class Trait:
    """One thing in which a difference is no rounding.

    Args:
        kind: which test found it.
        value: what was measured.
        limit: what rounding stays within.
    """

    kind: Kind
    value: float
    limit: float

    @property
    def words(self) -> str:
        return SAID[self.kind].format(value=self.value, limit=self.limit)


def largest_shrinkage(dtype: str) -> float:
    """The largest κ that an encoder of a dtype has."""
    return LARGEST_SHRINKAGE.get(dtype, OTHER_SHRINKAGE)
