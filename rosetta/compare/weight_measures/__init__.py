"""What more is said of the weights that differ most: how, and in which region. Each is a module here with `FIELD`, the
field of `WeightDiff` that it fills, and a class `Measure` that sees all rows once; a new one is a new file and a field.

Letters: R = rows, C = columns, what a row holds beside the last axis among them.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from functools import cache
from types import ModuleType
from typing import Any, Protocol

from torch import Tensor

from rosetta.weight import Weight, row_ranges


class WeightMeasure(Protocol):
    """Looks at two copies of one matrix, some rows at a time."""

    def add(self, start: int, reference: Tensor, other: Tensor) -> None:
        """See the rows from `start` on, float32 [rows, C] of both copies."""
        ...

    def result(self) -> Any:
        """The field's value; None where there is nothing to say."""
        ...


def in_measures(reference: Weight, other: Weight) -> dict[str, Any]:
    """The fields of a `WeightDiff` that these measures fill.

    Args:
        reference, other: copies of the same dims, of two axes or more, whose bytes can be decoded.
    """
    rows, columns = reference.dims[0], math.prod(reference.dims[1:])
    measures: dict[str, WeightMeasure] = {found.FIELD: found.Measure(rows, columns) for found in _modules()}
    for start, stop in row_ranges(reference):
        a, b = (weight.values(start, stop).reshape(-1, columns) for weight in (reference, other))
        for measure in measures.values():
            measure.add(start, a, b)
    return {name: measure.result() for name, measure in measures.items()}


@cache
def _modules() -> tuple[ModuleType, ...]:
    return tuple(
        importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
