"""OpenBLAS, which numpy brings, for products of many rows where torch's own library is slow: on AMD's processors MKL
does 39 to 53 · 10⁹ float32 operations a second of a core, and OpenBLAS 58 to 77 (docs/benchmarks.md).

Letters: T = tokens, C = inputs, R = outputs of a matrix.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from rosetta.lazily import functional as F
from rosetta.lazily import torch
from rosetta.system import processor_maker

if TYPE_CHECKING:
    from torch import Tensor

MANY = 64  # rows from which on it is the quicker one
SLOW_WITH_MKL = "AuthenticAMD"
SPELLINGS = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")


def multiply(x: Tensor, matrix: Tensor, out: Tensor) -> None:
    """Put x Wᵀ where it belongs.

    Args:
        x: [T, C].
        matrix: W, [R, C], of the same dtype on the same device.
        out: [T, R]; its rows may lie apart.
    """
    if len(x) >= MANY and takes(x) and takes(matrix) and takes(out):
        np.matmul(x.numpy(), matrix.numpy().T, out=out.numpy())
    else:
        out.copy_(F.linear(x, matrix))


def takes(x: Tensor) -> bool:
    """Whether it multiplies such values here: in this thread alone, for `spread` has given each core its own work."""
    alone = _quicker() and _threads()[0]() == 1
    return alone and x.device.type == "cpu" and x.dtype == torch.float32 and x.stride(-1) == 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets it multiply in the thread that asks, and restores its number of threads afterwards."""
    if not _quicker():
        yield
        return
    number, use = _threads()
    before = number()
    use(1)
    try:
        yield
    finally:
        use(before)


@cache
def _quicker() -> bool:
    mkl = bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]
    return mkl and processor_maker() == SLOW_WITH_MKL and _library() is not None


def _threads() -> tuple[Callable[[], int], Callable[[int], None]]:
    """What says, and what sets, its number of threads."""
    found = _library()
    assert found is not None
    return found


@cache
def _library() -> tuple[Any, Any] | None:
    """Both functions out of the library that numpy was linked with; None where that is another one."""
    module = getattr(np, "_core", None) or np.core  # before numpy 2
    library = ctypes.CDLL(module._multiarray_umath.__file__)  # whoever looks there finds what it needs, too
    for spelling in SPELLINGS:
        names = (spelling.format("get_num_threads"), spelling.format("set_num_threads"))
        if all(hasattr(library, name) for name in names):
            return getattr(library, names[0]), getattr(library, names[1])
    return None
