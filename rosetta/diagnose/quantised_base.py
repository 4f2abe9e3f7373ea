"""The levels of a quantised base beneath an adapter that was merged into it (QLoRA): W' = Q(W) + s·B·A.

Letters: R = rows, C = columns of the matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rosetta.adapted import Merged
from rosetta.diagnose.lattices import lattice_of_rows, rounded, sampled, unit_of
from rosetta.diagnose.levels import OnEvenLevels, OnLevels
from rosetta.dtypes import FLOATS
from rosetta.weight import Weight

ARITHMETIC = 2.0**-21  # of float32's own, in a product of a few dozen terms
STRETCH = 2.0**-7  # relative: what the base's rounding has in common with what was added to it
OF_ADDED = 2  # roundings of what is added, before it is: of the product, and of that times the scale


class Addition(Protocol):
    """What was added to a base, and by how much each row was stretched then."""

    def off(self, added: Tensor) -> Tensor | float:
        """By how much its numbers may be off at most, as far as they are known."""
        ...

    def taken_off(self, values: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """What was added to rows that begin with `start`, [R, C], the base that is left, and the stretch of its rows,
        [R, 1]."""
        ...


@dataclass(frozen=True)
class OfAdapter:
    """What an adapter that is at hand adds.

    Args:
        merge: how it is merged.
        base: what it is merged into, as it was before it was quantised.
        times: how often.
    """

    merge: Merged
    base: Weight
    times: float = 1.0

    def off(self, added: Tensor) -> Tensor | float:
        """See `Addition`: as far as a stretch that was fitted may be off."""
        return 0.0 if self.merge.lengths is None else added.abs() * STRETCH

    def taken_off(self, values: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """See `Addition`. A row of DoRA has its length whatever it is made of: how far it was stretched is fitted."""
        rows = start, start + len(values), values.device
        added = self.times * self.merge.added.values(*rows)
        if self.merge.lengths is None:
            return added, values - added, values.new_ones(len(values), 1)
        whole = self.base.values(*rows) + added
        stretch = (values * whole).sum(1, keepdim=True) / whole.square().sum(1, keepdim=True).clamp(min=1e-30)
        return added * stretch, values / stretch - added, stretch


@dataclass(frozen=True, eq=False)
class OfFactors:
    """A product of two matrices that was found in the difference.

    Args:
        left, right: its factors, float32 [R, r] and [r, C].
        error: by how much its numbers may be off at most.
    """

    left: Tensor
    right: Tensor
    error: float = 0.0

    def off(self, added: Tensor) -> Tensor | float:
        """See `Addition`."""
        return self.error

    def taken_off(self, values: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """See `Addition`."""
        added = (self.left[start : start + len(values)] @ self.right).to(values.device)
        return added, values - added, values.new_ones(len(values), 1)


@dataclass(frozen=True, eq=False)
class OverQuantised:
    """Values as they are, with the rounding of the base that something was added to.

    Args:
        levels: of the base.
        addition: what was added to it.
        unit: relative rounding of the values themselves.
    """

    levels: OnLevels | OnEvenLevels
    addition: Addition
    unit: float

    @property
    def nearest(self) -> bool:
        """See `OnLevels`."""
        return self.levels.nearest

    @property
    def like(self) -> str | None:
        """See `OnLevels`."""
        return self.levels.like

    def touches(self, start: int, stop: int) -> bool:
        return False  # only their noise does

    def values(self, values: Tensor, start: int) -> Tensor:
        return values

    def sigma(self, sigma: Tensor, values: Tensor, start: int) -> Tensor:
        base, known, stretch = _base(values, start, self.addition, self.unit)
        return torch.hypot(sigma, self.levels.rounding(base, known) * stretch.abs())


def over_quantised(weight: Weight, addition: Addition, original: Weight) -> tuple[OverQuantised, str] | None:
    """The lattice of a float matrix once what was added to it is taken off, and its name; None where it has none.

    Args:
        weight: base and addition.
        addition: what was added.
        original: the base as it was before.
    """
    if weight.dtype not in FLOATS:
        return None
    unit, parts = max(unit_of(weight.dtype), ARITHMETIC), []
    for row in sampled(weight):
        values = weight.values(row, row + 1)
        base, known, stretch = _base(values, row, addition, unit)
        # The original with the same added to it, rounded and taken off again: it is known no better.
        whole = original.values(row, row + 1) * stretch + (values - base * stretch)
        control = base + (rounded(whole, weight.dtype) - values) / stretch
        parts.append((base, control, known))
    a, b, known = (torch.cat(rows) for rows in zip(*parts, strict=True))
    found = lattice_of_rows(a, b, unit, known)
    return None if found is None else (OverQuantised(found[0], addition, unit), found[1])


def _base(values: Tensor, start: int, addition: Addition, unit: float) -> tuple[Tensor, Tensor, Tensor]:
    """The base that is left, how far it may be off at most, by the roundings of the sum and of what was added, and the
    stretch of its rows."""
    added, base, stretch = addition.taken_off(values, start)
    known = unit * (values.abs() + OF_ADDED * added.abs()) + addition.off(added)
    return base, known / stretch.abs(), stretch
