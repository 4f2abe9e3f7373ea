"""Where a repaired file may go: never over anything, never into an input."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from rosetta.containers.unfinished import ANOTHER, refuse_existing
from rosetta.errors import UsageError


def check_target(target: Path, inputs: Iterable[Path]) -> None:
    """Refuse a place that the repaired file must not or cannot take, before the work that it is for.

    Raises:
        UsageError: something is there already, an input above all; it lies inside an input; its folder is missing.
    """
    for given in inputs:
        if target.exists() and given.exists() and os.path.samefile(target, given):
            raise UsageError(
                "is an input, which is never touched", file=target, remedy="name another file with -o"
            )
        if given.is_dir() and given.resolve() in target.resolve().parents:
            raise UsageError(
                f"lies inside the input {given}, which is never touched", file=target, remedy=ANOTHER
            )
    refuse_existing(target)
    if not target.name or not target.parent.is_dir():
        raise UsageError("its folder does not exist", file=target, remedy="make the folder first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UsageError("may not be written", file=target, remedy="choose another place")
