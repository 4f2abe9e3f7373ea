"""What one side says: its likeliest tokens, where it ends, whether its memory tells it the same; where two part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from rosetta.parity.parting import parting
from rosetta.parity.speech import Speech, repeats, speak
from rosetta.runtimes.observed.capture import Facts

WIDTH = 8


class Counting:
    """A decoder whose likeliest token is one more than the last; `spoilt` changes logits once it remembers tokens."""

    def __init__(self, spoilt: Callable[[Any, int], None] = lambda row, position: None) -> None:
        self.facts, self.spoilt, self.position = Facts("torch"), spoilt, 0
        self.fed: list[int] = []

    def restart(self) -> None:
        self.position = 0

    def feed(self, ids: Sequence[int], last: int = 1) -> Any:
        rows = np.zeros((len(ids), WIDTH), dtype=np.float32)
        for row, token in zip(rows, ids, strict=True):
            row[(token + 1) % WIDTH] = 1.0
        if self.position:
            self.spoilt(rows[-1], self.position)
        self.position += len(ids)
        self.fed.append(len(ids))
        return rows[-last:]

    def close(self) -> None:
        pass


def test_each_token_is_fed_once_and_then_all_at_once() -> None:
    model = Counting()
    speech = speak(model, [1, 2], 4, ())
    assert (speech.ids, speech.ended) == ([3, 4, 5, 6], "length")
    assert model.fed == [2, 1, 1, 1, 5]
    assert speech.whole == speech.ids
    assert speech.cached_error == [0.0] * 4
    assert [int(speech.row(i).argmax()) for i in range(4)] == speech.ids


def test_a_token_that_ends_a_text_ends_it_and_is_kept() -> None:
    speech = speak(Counting(), [1, 2], 9, {4})
    assert (speech.ids, speech.ended) == ([3, 4], "stop")


def test_a_memory_that_forgets_shows_where_and_how_much() -> None:
    def forgets(row: Any, position: int) -> None:
        if position == 4:
            row[0] = 1.5

    speech = speak(Counting(forgets), [1, 2], 4, ())
    assert speech.ids == [3, 4, 5, 0]
    assert speech.whole == [3, 4, 5, 6]
    assert speech.cached_error == [0.0, 0.0, 0.0, 1.5]


def test_logits_that_are_no_numbers_end_it() -> None:
    def breaks(row: Any, position: int) -> None:
        row[2] = np.nan if position == 3 else row[2]

    speech = speak(Counting(breaks), [1, 2], 9, ())
    assert (speech.ids, speech.ended) == ([3, 4], "nonfinite")
    assert np.isnan(speech.worst_error), "it remembers what is no number, and all at once there is none such"


@pytest.mark.parametrize(
    ("said", "round_"),
    [
        ([1] * 8, True),
        ([9, 8, 7, 6, 1, 2, 1, 2, 1, 2, 1, 2], True),
        ([1, 2, 3, 4, 5, 6, 7, 8], False),
        ([1] * 7, False),  # too little to say
        ([5, 5, 5, 5, 5, 5, 1, 2, 3, 4, 6, 7], False),  # it came out of it
    ],
)
def test_going_round_in_a_circle_is_seen(said: list[int], round_: bool) -> None:
    assert repeats(said) is round_


def spoken(rows: list[list[float]], prompt_rows: int) -> Speech:
    logits = np.array(rows, dtype=np.float32)
    ids = [int(row.argmax()) for row in logits[prompt_rows:]]
    return Speech(ids, "length", logits, [0.0] * len(ids), ids)


def test_what_is_judged_is_not_what_it_is_judged_by() -> None:
    believed = spoken([[0, 0, 0, 0], [1, 0, 0, 0], [0, 2.0, 1.5, 0]], 1)
    subject = spoken([[0, 0, 0, 0.1], [1, 0, 0, 0], [0, 1.0, 2.5, 0]], 1)
    found = parting(subject, believed)
    assert found.at == 1
    assert found.margin == pytest.approx(0.5)
    # Of the first row, 0.1 less the mean; the candidates' own differences of 1 count for nothing.
    assert found.error == pytest.approx(0.075)


def test_a_constant_of_each_token_is_no_difference() -> None:
    believed = spoken([[0, 0, 0, 1], [1, 0, 0, 0]], 1)
    subject = spoken([[7, 7, 7, 8], [4, 3, 3, 3]], 1)
    found = parting(subject, believed)
    assert (found.at, found.margin, found.error) == (None, None, 0.0)


def test_one_that_ends_parts_where_the_other_goes_on() -> None:
    believed = spoken([[0, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0]], 1)
    subject = spoken([[0, 0, 0, 1], [1, 0, 0, 0]], 1)
    found = parting(subject, believed)
    assert (found.at, found.margin, found.error) == (1, None, 0.0)
