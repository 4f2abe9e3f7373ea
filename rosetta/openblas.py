"""OpenBLAS, which numpy brings, for products of many rows where torch's own library is slow: on AMD's processors MKL
does 39 to 53 · 10⁹ float32 operations a second of a core, and OpenBLAS 58 to 77 (docs/benchmarks.md).

Letters: T = tokens, C = inputs, R = outputs of a matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from rosetta.lazily import functional as F
from rosetta.lazily import torch
from rosetta.system import processor_maker

if TYPE_CHECKING:
    from threadpoolctl import LibController
    from torch import Tensor

MANY = 64  # rows from which on it is the quicker one
SLOW_WITH_MKL = "AuthenticAMD"


def multiply(x: Tensor, matrix: Tensor, out: Tensor) -> None:
    """Put x Wᵀ where it belongs.

    Args:
        x: [T, C].
        matrix: W, [R, C], of the same dtype on the same device, by rows or by columns.
        out: [T, R]; its rows may lie apart.
    """
    if len(x) >= MANY and takes(x) and (takes(matrix) or takes(matrix.T)) and takes(out):
        np.matmul(x.numpy(), matrix.numpy().T, out=out.numpy())
    else:
        out.copy_(F.linear(x, matrix))


def takes(x: Tensor) -> bool:
    """Whether it multiplies such values here: in this thread alone, for `spread` has given each core its own work."""
    alone = _quicker() and _numpys().get_num_threads() == 1
    return alone and x.device.type == "cpu" and x.dtype == torch.float32 and x.stride(-1) == 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets it multiply in the thread that asks, and restores its number of threads afterwards."""
    if not _quicker():
        yield
        return
    before = _numpys().get_num_threads()
    _numpys().set_num_threads(1)
    try:
        yield
    finally:
        _numpys().set_num_threads(before)


@cache
def _quicker() -> bool:
    mkl = bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]
    return mkl and processor_maker() == SLOW_WITH_MKL and _library() is not None


def _numpys() -> LibController:
    found = _library()
    assert found is not None
    return found


@cache
def _library() -> LibController | None:
    """The library that numpy multiplies with; None where that is another one."""
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(internal_api="openblas").lib_controllers
    return found[0] if len(found) == 1 else next((one for one in found if "numpy" in one.filepath), None)
