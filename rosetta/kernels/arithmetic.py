"""How loops are compiled: without Python's lock, with the arithmetic of IEEE 754, once for each installation.

This module must not be imported without numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

exact = njit(nogil=True, error_model="numpy")
summing = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
"""Sums may be taken in any order; NaN and infinite values are what they are."""


@summing
def dot(x: Any, y: Any) -> Any:
    """Σ x·y of two vectors, float32."""
    total = np.float32(0)
    for j in range(x.shape[0]):
        total += x[j] * y[j]
    return total
