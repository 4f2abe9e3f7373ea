"""Where two continuations of one prompt part, and how near a tie that was.

Letters: V = tokens of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rosetta.compare.prompt import first_difference
from rosetta.parity.speech import Speech


@dataclass(frozen=True)
class Parting:
    """The first token that two sides choose differently.

    Args:
        at: which of the tokens said, counted from 0; None where they say the same.
        margin: how far apart the believed side holds the two candidates, in logits; None where one side has none.
        error: largest difference of the two sides' logits over the common tokens, the two candidates at the parting
            left out: what is measured must not be what is judged. A constant of a token counts for nothing.
    """

    at: int | None
    margin: float | None
    error: float


def parting(subject: Speech, believed: Speech) -> Parting:
    """Where two sides part that went on with the same ids."""
    at = first_difference(subject.ids, believed.ids)
    rows = min(subject.prompt_rows, believed.prompt_rows)
    common = rows + min(len(subject.ids), len(believed.ids)) if at is None else rows + at + 1
    width = min(subject.logits.shape[-1], believed.logits.shape[-1])
    mine, theirs = (
        side.logits[side.prompt_rows - rows :][:common, :width].astype(np.float64)
        for side in (subject, believed)
    )
    common = min(len(mine), len(theirs))
    gaps = mine[:common] - theirs[:common]
    gaps = np.abs(gaps - gaps.mean(-1, keepdims=True))
    margin = None
    if at is not None and at < len(subject.ids) and at < len(believed.ids):
        candidates = [subject.ids[at], believed.ids[at]]
        row = believed.row(at)
        if max(candidates) < width:
            margin = float(row[candidates[1]] - row[candidates[0]])
            gaps[-1, candidates] = 0.0
    return Parting(at, margin, float(gaps.max()) if gaps.size else 0.0)
