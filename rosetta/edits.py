"""What a reading or a repair does to a weight on the way from its file, and what others may ask of that.

Letters: R = rows, C = columns of the canonical matrix, row-major; a vector counts as [R, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

BytesEdit = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""All stored bytes of a tensor -> as many repaired ones."""


class ValuesEdit(Protocol):
    """What a repair does to canonical values, row by row, and to the noise that they carry."""

    def touches(self, start: int, stop: int) -> bool:
        """Whether any of the rows start … stop may change."""
        ...

    def values(self, values: Tensor, start: int) -> Tensor:
        """Repaired values of the rows from `start` on, float32 [rows, C] ([rows] of a vector)."""
        ...

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        """Standard deviation of the repaired values, given that of the stored ones and these themselves."""
        ...


@runtime_checkable
class Reversible(ValuesEdit, Protocol):
    """An edit that can be undone: a reading makes it, and a writer turns it round."""

    def stored(self, values: Tensor, start: int) -> Tensor:
        """Stored values that canonical ones of the rows from `start` on are made of."""
        ...


@runtime_checkable
class Encoded(ValuesEdit, Protocol):
    """An edit that says which dtype's encoder left the values."""

    @property
    def like(self) -> str | None:
        """The dtype; None where it is none of those that are stored."""
        ...


@runtime_checkable
class Rounded(ValuesEdit, Protocol):
    """An edit that says how each value was rounded, to levels of a dtype or to others."""

    @property
    def nearest(self) -> bool:
        """Whether each value was rounded by itself to one of the levels about it."""
        ...


@runtime_checkable
class Fitted(ValuesEdit, Protocol):
    """An edit whose numbers, many of them, are fitted to the other side's copy."""

    @property
    def fitted(self) -> bool: ...


@runtime_checkable
class OfLowRank(ValuesEdit, Protocol):
    """An edit that takes off a matrix of low rank, fitted to the other side's copy: none is left to find."""

    @property
    def of_low_rank(self) -> bool: ...


@runtime_checkable
class Leveraged(ValuesEdit, Protocol):
    """An edit whose numbers are fitted, and which says how much of a value's error is in them."""

    def leverage(self, values: Tensor, start: int) -> Tensor:
        """The leverage of each value of the rows from `start` on, as `values` has them."""
        ...


@runtime_checkable
class OfSettings(ValuesEdit, Protocol):
    """An edit that a reading makes with numbers of the config."""

    @property
    def of_settings(self) -> Iterator[tuple[int, int, tuple[str, ...]]]:
        """(first row, the one after the last, settings whose product these rows are multiplied with)."""
        ...
