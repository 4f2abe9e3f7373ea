"""How loops are compiled: without Python's lock, with the arithmetic of IEEE 754, once for each installation.

This module must not be imported without numba.
"""

from __future__ import annotations

from numba import njit

exact = njit(nogil=True, error_model="numpy")
summing = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
"""Sums may be taken in any order; NaN and infinite values are what they are."""
