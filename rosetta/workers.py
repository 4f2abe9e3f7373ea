"""Spreads work over all cores: one thread each, in which torch and numpy run alone.

torch's own threads share each small operation and wait for each other after it; on blocks that fit a core's
cache, whole blocks side by side are several times faster, and do not stall when another process has a core.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from rosetta import openblas
from rosetta.lazily import torch

if TYPE_CHECKING:
    from torch import Tensor


NAME = "rosetta-worker"
VALUES_AT_ONCE = 1 << 20  # that are summed at a time, whatever the length of the prompt: 8 MiB in float64
TURN = 5e-4  # seconds that a thread runs Python while others wait: ten times as many are longer than most of their work
Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(task: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The task's result for each item, in order; a single item, and work within work, is done on the spot."""
    todo = list(items)
    if len(todo) < 2 or threading.current_thread().name.startswith(NAME):
        return [task(item) for item in todo]
    return list(_pool().map(_without_grad(task), todo))


def aside(task: Callable[[], Result]) -> Callable[[], Result]:
    """Start a task beside what is done meanwhile; what is returned waits for its result. Within work it is done when it
    is waited for."""
    if threading.current_thread().name.startswith(NAME):
        return task
    return _pool().submit(_without_grad(lambda _: task()), None).result


def sum_of_squares(x: Tensor) -> float:
    """Accumulated in float64."""
    return math.fsum(spread(_sum_of_squares, pieces(x)))


def _sum_of_squares(part: Tensor) -> float:
    values = part.double()
    return float(values @ values)  # a third of the time of squares that are added up


def pieces(x: Tensor) -> Iterator[Tensor]:
    """The values in order, `VALUES_AT_ONCE` at a time."""
    flat = x.flatten()
    return (flat[start : start + VALUES_AT_ONCE] for start in range(0, len(flat), VALUES_AT_ONCE))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Lets torch, and what multiplies for it, use one thread, as the workers do, and threads take turns in Python soon;
    restores all of that."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with openblas.one_thread(), _short_turns():
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _short_turns() -> Iterator[None]:
    """Lets a worker that has read or multiplied go on soon with its next call, while another thread runs Python."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, TURN))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@cache
def _pool() -> ThreadPoolExecutor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(cores or 1, NAME, initializer=lambda: torch.set_num_threads(1))


if hasattr(os, "register_at_fork"):
    # A forked process has the pool, and none of its threads: whoever waited for them would wait for ever.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _without_grad(task: Callable[[Item], Result]) -> Callable[[Item], Result]:
    """Inference mode is a thread's own."""

    def run(item: Item) -> Result:
        with torch.inference_mode():
            return task(item)

    return run
