"""Strict JSON of whatever a file's metadata holds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosetta.strict_json import json_text, plain


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
        max_leaves=20,
    )
)
def test_any_metadata_becomes_strict_json(value: Any) -> None:
    text = json_text(value)
    assert json.loads(text.encode("utf-8"), parse_constant=pytest.fail) == json.loads(
        json.dumps(plain(value))
    )


def test_arrays_keep_their_values() -> None:
    value = {"a": np.array([1, 2], np.uint8), "b": np.float32(0.5), "c": {3}, "d": np.bool_(True), 4: b"x"}
    assert json.loads(json_text(value), parse_constant=pytest.fail) == {
        "a": [1, 2],
        "b": 0.5,
        "c": [3],
        "d": True,
        "4": "x",
    }
