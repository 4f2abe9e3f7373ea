"""The hypotheses: one module each, found by listing this package."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from rosetta.diagnose.hypothesis import Fault, Proposal

Hypothesis = Callable[[Fault], Iterator[Proposal]]


@cache
def all_hypotheses() -> tuple[Hypothesis, ...]:
    """The `propose` function of every hypothesis."""
    modules = [
        importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
    ]
    return tuple(module.propose for module in modules)


def in_turn(hypotheses: Iterable[Hypothesis]) -> list[list[Hypothesis]]:
    """The hypotheses in the order in which they are asked, for what is asked late has to decode both copies of
    every weight: those that undo a cause in the file's own bytes or settings, those of a module that says
    `TAKES_FROM_REFERENCE = True`, and those that explain anything, `LAST_RESORT = True`.
    """
    turns: list[list[Hypothesis]] = [[], [], []]
    for propose in hypotheses:
        module = sys.modules[propose.__module__]
        last, taking = (getattr(module, mark, False) for mark in ("LAST_RESORT", "TAKES_FROM_REFERENCE"))
        turns[2 if last else 1 if taking else 0].append(propose)
    return turns
