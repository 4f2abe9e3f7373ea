"""Where a key of a JSON object stands in its bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rosetta.containers.json_text import place_of_key

TABLE: dict[str, Any] = {
    "é": [1, {"x": 2}],
    "a": {"b": {"c": float("nan")}, "b2": "}{,:"},
    "c.d": 2,
    'quoted "a"': None,
    "empty": {},
    "x": -0.5,
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("key", ["é", "a", "a.b", "a.b.c", "a.b2", "c.d", 'quoted "a"', "empty", "x"])
def test_key_is_found_where_it_stands(key: str, indent: int | None) -> None:
    text = json.dumps(TABLE, indent=indent, ensure_ascii=False).encode()
    place = place_of_key(text, key)
    assert place is not None
    name = key if key in TABLE else key.rpartition(".")[2]
    assert text[place:].startswith(json.dumps(name, ensure_ascii=False).encode())
    assert place_of_key(b"\xef\xbb\xbf \n" + text, key) == place + 5  # behind a byte order mark


@pytest.mark.parametrize("key", ["b", "a.c", "é.x", "x.y", "empty.a", ""])
def test_key_that_is_not_there_has_no_place(key: str) -> None:
    assert place_of_key(json.dumps(TABLE).encode(), key) is None


def test_of_a_repeated_key_it_is_the_one_that_counts() -> None:
    text = b'{"a": 1, "b": {"a": 2}, "a": 3}'
    assert place_of_key(text, "a") == text.rindex(b'"a"')
    assert json.loads(text)["a"] == 3
