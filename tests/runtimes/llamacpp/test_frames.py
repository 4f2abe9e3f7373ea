"""Frames between parent and child: what goes in comes out, and a pipe that breaks off is an end."""

from __future__ import annotations

import io

import numpy as np
import pytest

from rosetta.runtimes.llamacpp.frames import receive, send


@pytest.mark.parametrize("dims", [(3, 4), (2, 3, 4), (0, 4), (1,)])
def test_values_and_header_come_out_as_they_went_in(dims: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(dims).astype(np.float32)
    pipe = io.BytesIO()
    send(pipe, {"stage": "layers.0.q"}, values)
    send(pipe, {"end": True})
    pipe.seek(0)
    first, second = receive(pipe), receive(pipe)
    assert first is not None
    assert first[0] == {"stage": "layers.0.q", "dims": list(dims)}
    assert first[1] is not None
    assert np.array_equal(first[1], values)
    assert second == ({"end": True}, None)
    assert receive(pipe) is None


@pytest.mark.parametrize("kept", [0, 3, 10, 40])
def test_a_pipe_that_breaks_off_is_an_end(kept: int) -> None:
    pipe = io.BytesIO()
    send(pipe, {"stage": "q"}, np.zeros(8, dtype=np.float32))
    assert receive(io.BytesIO(pipe.getvalue()[:kept])) is None


def test_a_header_of_absurd_length_is_an_end() -> None:
    assert receive(io.BytesIO(b"\xff\xff\xff\xff{}")) is None
