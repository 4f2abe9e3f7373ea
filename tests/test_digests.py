"""Digests that are begun beside other work are those of hashlib, each made once."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from rosetta import digests
from rosetta.containers.container import Place
from rosetta.digests import Digests
from rosetta.errors import RosettaError


@pytest.fixture
def places(tmp_path: Path) -> dict[Place, str]:
    """Places of a file, longer than what is read at a time among them, and what hashlib says of each."""
    data = bytes(range(251)) * 40_000
    file = tmp_path / "data"
    file.write_bytes(data)
    cuts = [(0, 0), (0, 1), (5, 1000), (1000, len(data) - 1000), (7, 3 << 20)]
    return {Place(file, a, n): hashlib.sha256(data[a : a + n]).hexdigest() for a, n in cuts}


def test_begun_or_not_they_are_hashlibs(places: dict[Place, str]) -> None:
    some = Digests()
    some.begin(list(places)[::2])
    assert some.of([*places, *places]) == places


def test_each_is_made_once(places: dict[Place, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is asked for while it is made, and what is begun twice."""
    made, may_go_on, own = [], threading.Event(), digests.sha256

    def counted(place: Place) -> str:
        made.append(place)
        if threading.current_thread().name.startswith("rosetta-sha256"):
            assert may_go_on.wait(10)
        else:
            may_go_on.set()  # the others are made here meanwhile
        return own(place)

    monkeypatch.setattr(digests, "sha256", counted)
    some = Digests()
    some.begin(places)
    some.begin(places)
    while not made:
        pass
    assert some.of(reversed(places)) == places
    assert sorted(made) == sorted(places)


def test_none_is_begun_after_the_end(places: dict[Place, str], monkeypatch: pytest.MonkeyPatch) -> None:
    made, may_go_on = [], threading.Event()
    monkeypatch.setattr(digests, "sha256", lambda place: (made.append(place), may_go_on.wait(10)))
    some = Digests()
    some.begin(places)
    while not made:
        pass
    some.stop()
    may_go_on.set()
    some._beside.shutdown(wait=True)
    assert len(made) == 1


def test_a_file_that_is_gone_is_said_when_it_is_asked_for(tmp_path: Path) -> None:
    some = Digests()
    some.begin([Place(tmp_path / "gone", 0, 4)])
    with pytest.raises(RosettaError, match="gone"):
        some.of([Place(tmp_path / "gone", 0, 4)])
