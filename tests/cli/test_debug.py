"""`rosetta debug` where it cannot run: without a terminal, without textual."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


def test_without_textual_it_says_what_to_install(rosetta: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = rosetta("debug", "a", "b")
    assert result.code == 2
    assert "pip install 'rosetta-trace[debug]'" in result.err


def test_without_a_terminal_it_says_what_to_do_instead(rosetta: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    result = rosetta("debug", "a", "b")
    assert result.code == 2
    assert "debug needs a terminal" in result.err
