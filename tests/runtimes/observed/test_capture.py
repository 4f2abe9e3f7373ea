"""Stages in order, from a runtime that computes them in another."""

from __future__ import annotations

import numpy as np

from rosetta.runtimes.observed.capture import by_layer

VALUE = np.zeros(1, dtype=np.float32)


def test_stages_come_in_their_order_as_soon_as_they_can() -> None:
    handed: list[str] = []

    def computed() -> object:
        for name in ("embedding", "v", "k", "q", "residual"):
            yield name, VALUE
            handed.append(name)

    found = []
    for name, _ in by_layer(computed(), ["embedding", "q", "k", "v", "residual"]):  # type: ignore[arg-type]
        found.append((name, len(handed)))
    assert found == [("embedding", 0), ("q", 3), ("k", 3), ("v", 3), ("residual", 4)]


def test_a_stage_that_never_comes_holds_up_no_more_than_a_layer() -> None:
    expected = ["lost", *(f"layers.{n}.q" for n in range(500))]
    came = 0

    def computed() -> object:
        nonlocal came
        for name in expected[1:]:
            came += 1
            yield name, VALUE

    waits = []
    for count, _ in enumerate(by_layer(computed(), expected)):  # type: ignore[arg-type]
        waits.append(came - count)
    assert len(waits) == 500
    assert max(waits) < 100
