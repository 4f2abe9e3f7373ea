"""`rosetta explain`: every kind in a line, one in full, and the nearest where there is none of the name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rosetta.diagnose.kinds import all_kinds

Rosetta = Callable[..., Any]


def test_all_kinds_are_listed_a_line_each(rosetta: Rosetta) -> None:
    result = rosetta("explain")
    assert (result.code, result.err) == (0, "")
    lines = [line.split(maxsplit=1) for line in result.out.splitlines()]
    assert lines == [[kind.id, kind.means] for kind in all_kinds().values()]


@pytest.mark.sample(7)
@pytest.mark.parametrize("kind", all_kinds().values(), ids=lambda kind: kind.id)
def test_a_kind_is_explained_in_full(rosetta: Rosetta, kind: Any) -> None:
    result = rosetta("explain", kind.id)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"# {kind.id} ({kind.headline})\n")
    words = " ".join(result.out.split())
    for heading, text in (
        ("What it means", kind.means), ("Why it happens", kind.why), ("How it is repaired", kind.repair),
    ):  # fmt: skip
        assert f"## {heading} {' '.join(text.split())}" in words
    assert max(map(len, result.out.splitlines())) <= 100


def test_kind_of_a_setting_says_its_keys_and_what_shows_it(rosetta: Rosetta) -> None:
    window = rosetta("explain", "config.sliding_window").out
    assert "attention.sliding_window: a count; it takes one token more than the smaller window\n" in window
    keys = rosetta("explain", "config.head_dim").out
    assert "attention.key_length: a count\nattention.value_length: a count\n" in keys
    assert "## Settings" not in rosetta("explain", "value.offset").out


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("value.ofset", "value.offset"),
        ("rope_theta", "config.rope_theta"),
        ("Layout.Transposed", "layout.transposed"),
    ],
)
def test_unknown_kind_is_told_with_the_nearest(rosetta: Rosetta, wrong: str, near: str) -> None:
    result = rosetta("explain", wrong)
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"rosetta: there is no finding kind '{wrong}': did you mean {near}? rosetta explain lists all\n"
    )
