"""The hypotheses: one module each, found by listing this package."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
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


def takes_from_reference(propose: Hypothesis) -> bool:
    """Whether a hypothesis repairs with values of the other side: `TAKES_FROM_REFERENCE = True` in its module.

    It is asked last, for it has to decode both copies of every weight to say how much it would take.
    """
    return bool(getattr(sys.modules[propose.__module__], "TAKES_FROM_REFERENCE", False))
