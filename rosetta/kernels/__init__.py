"""Loops over weights that numba compiles, where it is installed: what torch does in many passes over memory they do in
one, while a row lies in a core's cache.

They are compiled once for each installation and kind of processor, and found again by numba's own cache: beside this
file, or in the user's cache folder where that cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Seconds of one core, measured together (docs/benchmarks.md, "One pass"): what they save of each weight that is
# compared, and what they cost: in each process, and once for all that follow it, of which one is counted on.
SAVED, LOADING, COMPILING = 5e-9, 0.6, 11.5
SHARED_BY = 2

RUN = 32
"""What a loop over 32 bytes is told: one whose length the compiler knows is unrolled before it looks for vectors."""


def repaid(weights: int) -> bool:
    """Whether what the loops save, of so many weights that are to be compared, is more than they cost."""
    if SAVED * weights < LOADING or not _is_usable():
        return False
    if is_compiled():
        return True
    return (SHARED_BY if _folder() else 1) * SAVED * weights >= COMPILING


@cache
def is_compiled() -> bool:
    """Whether numba's cache has them."""
    folder, line = _folder(), _loops().one_pass.__code__.co_firstlineno
    return folder is not None and any(folder.glob(f"one_pass.one_pass-{line}.*.nbi"))


@cache
def _folder() -> Path | None:
    """Numba's cache of them; None where there is no folder that can be written."""
    from numba import njit

    try:
        return Path(njit(cache=True)(_loops().one_pass).stats.cache_path)
    except RuntimeError:
        return None


def _loops() -> Any:
    return import_module("rosetta.kernels.one_pass")


def compiled(signature: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of these types, out of the cache, or compiled; each in one go, whatever it is given later."""
    from numba import njit

    try:
        return _with(njit, signature, function, cache=True)
    except RuntimeError:  # there is no folder for a cache
        return _with(njit, signature, function, cache=False)


def _with(njit: Any, signature: Any, function: Callable[..., Any], cache: bool) -> Callable[..., Any]:
    found: Callable[..., Any] = njit(signature, nogil=True, error_model="numpy", cache=cache)(function)
    return found


@cache
def levels_of(dtype: str) -> Callable[[Any, Any, int], None] | None:
    """What unpacks the levels of a dtype: see `levels.LEVELS`; None of one that has none."""
    levels = import_module("rosetta.kernels.levels")
    found = levels.LEVELS.get(dtype)
    return None if found is None else compiled(levels.SIGNATURE, found)


@cache
def _is_usable() -> bool:
    if find_spec("numba") is None:
        return False
    try:
        numba = import_module("numba")
    except ImportError:  # it refuses a numpy that is newer than itself
        return False
    return not numba.config.DISABLE_JIT  # as Python they would run for hours
