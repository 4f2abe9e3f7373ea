"""One side's greedy continuation of one prompt, with what it remembers, and the same tokens once more all at once.

Letters: V = tokens of the vocabulary, P = last tokens of the prompt whose logits are kept, S = tokens said.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rosetta.runtimes.decoding import Decoder
from rosetta.runtimes.observed.capture import Float32

KEPT = 32  # of the prompt's tokens whose logits are kept, from the end
SHORTEST = 8  # tokens of which it can be said that they repeat themselves
LARGEST_CYCLE = 8
REPEATED = 0.75  # of the second half
Ending = Literal["length", "stop", "nonfinite"]


@dataclass(frozen=True)
class Speech:
    """What a side said.

    Args:
        ids: tokens, the one that ended it among them.
        ended: `length`: it was stopped; `stop`: by a token that ends a text; `nonfinite`: logits were NaN or Inf.
        logits: float32 [P + S, V]: of the prompt's last tokens, then of what was said but for its last token. The row
            that chose token i is `row(i)`.
        cached_error: largest difference of each choosing row from the same row of one pass over all tokens, [S].
        whole: what that pass would have chosen, [S].
    """

    ids: list[int]
    ended: Ending
    logits: Float32
    cached_error: list[float]
    whole: list[int]

    @property
    def prompt_rows(self) -> int:
        """Rows before the one that chose the first token."""
        return len(self.logits) - max(1, len(self.cached_error))

    @property
    def worst_error(self) -> float:
        """The largest `cached_error`; NaN where one is."""
        return float(np.max(self.cached_error))

    def row(self, i: int) -> Float32:
        """Logits that chose token i, [V]."""
        found: Float32 = self.logits[self.prompt_rows + i]
        return found


def speak(model: Decoder, prompt: Sequence[int], count: int, stops: Collection[int]) -> Speech:
    """Let a side go on with a prompt, always with its likeliest token; of equal ones the first.

    Args:
        model: the side.
        prompt: ids.
        count: how many tokens it may say.
        stops: tokens that end a text.

    Raises:
        RuntimeFailed: the runtime failed.
    """
    model.restart()
    kept = min(len(prompt), KEPT)
    rows = [model.feed(prompt, kept)]
    said: list[int] = []
    ended: Ending = "length"
    while True:
        logits = rows[-1][-1]
        if not np.isfinite(logits).all():
            ended = "nonfinite"
            break
        said.append(int(logits.argmax()))
        if said[-1] in stops:
            ended = "stop"
            break
        if len(said) == count:
            break
        rows.append(model.feed(said[-1:], 1))
    logits = np.concatenate(rows)
    choosing = logits[kept - 1 :]
    model.restart()
    again = model.feed([*prompt, *said[: len(choosing) - 1]], len(choosing))
    return Speech(
        ids=said,
        ended=ended,
        logits=logits,
        cached_error=[float(gap) for gap in np.abs(again - choosing).max(-1)],
        whole=[int(best) for best in again.argmax(-1)],
    )


def repeats(said: Sequence[int]) -> bool:
    """Whether the second half of what was said goes round in a circle.

    >>> repeats([5, 9, 3, 7, 7, 7, 7, 7, 7, 7]), repeats(list(range(10)))
    (True, False)
    """
    if len(said) < SHORTEST:
        return False
    half = len(said) // 2
    return any(
        sum(said[i] == said[i - cycle] for i in range(half, len(said))) >= REPEATED * (len(said) - half)
        for cycle in range(1, min(LARGEST_CYCLE, half - 1) + 1)
    )
