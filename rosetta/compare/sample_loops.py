"""Compiled loops for what the errors of some rows tell, where numba is installed and so many weights repay it.

Letters: R = rows, C = columns, as in `structure_sample` and `spectrum`, which say what is worked out.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rosetta import kernels


class SampleLoops:
    """Loops over rows that were sampled of two copies; each is looked up when it is first asked for."""

    def __init__(self) -> None:
        self._loops: Any = import_module("rosetta.kernels.sampled")

    def column_sums(self, fine: Tensor, coarse: Tensor, variance: Tensor, wide: float, group: int) -> Tensor:
        """See `kernels.sampled.column_sums`: float32 [8, C]."""
        columns = fine.shape[1]
        sums, memory = np.empty((8, columns), np.float32), np.empty((3, columns), np.float32)
        rows = (x.contiguous().numpy() for x in (fine, coarse, variance))
        self._column_sums(*rows, np.float32(wide), group, memory, sums)
        return torch.from_numpy(sums)

    def like_noise(
        self, z: Tensor, u: Tensor, inverse: Tensor, equal: Tensor | None, group: int, clipped: float
    ) -> Tensor:
        """See `spectrum.beyond_noise`: float32 [R, C]; `z` is left as it is."""
        found = np.array(z.numpy(), order="C")
        memory = np.empty((4, found.shape[1]), np.float32)
        none = z.new_empty((0, z.shape[1]), dtype=torch.bool)
        others = (x.contiguous().numpy() for x in (u, inverse, none if equal is None else equal))
        self._like_noise(found, *others, group, np.float32(clipped), memory)
        return torch.from_numpy(found)

    def bidiagonal(
        self,
        z: Tensor,
        vectors: tuple[Tensor, Tensor],
        found: tuple[Tensor, Tensor],
        first: int,
        last: int,
        nothing: float,
    ) -> int:
        """See `kernels.sampled.bidiagonal`."""
        given = (x.numpy() for x in (*vectors, *found))
        made: int = self._bidiagonal(z.contiguous().numpy(), *given, first, last, np.float32(nothing))
        return made

    @cached_property
    def _column_sums(self) -> Any:
        return kernels.compiled(self._loops.COLUMN_SUMS, self._loops.column_sums)

    @cached_property
    def _like_noise(self) -> Any:
        return kernels.compiled(self._loops.LIKE_NOISE, self._loops.like_noise)

    @cached_property
    def _bidiagonal(self) -> Any:
        return kernels.compiled(self._loops.BIDIAGONAL, self._loops.bidiagonal)
