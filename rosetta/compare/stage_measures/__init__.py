"""What more is said of a stage that differs: which head, which expert. Each is a module here with `FIELD`, the field of
`StageDiff` that it fills, and `measured(seen)`; a new one is a new file, and the field."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from torch import Tensor

from rosetta.compare.in_parts import Value


@dataclass(frozen=True)
class SeenStage:
    """A stage that differs.

    Letters: T = tokens, E = experts.

    Args:
        op: its name without the layer.
        left, right: finite values of one shape on one device.
        faulty: whether the fault is here; a value that must be computed anew to be looked at is not for less.
        heads: attention heads of its layer; None where that is not known.
        routing: what experts count for each token on (left, right), [T, E]; None where there are none.
    """

    op: str
    left: Value
    right: Value
    faulty: bool = False
    heads: int | None = None
    routing: tuple[Tensor, Tensor] | None = None


def in_measures(seen: SeenStage) -> dict[str, Any]:
    """The fields of a `StageDiff` that these measures fill; None where one has nothing to say of the stage."""
    return {measure.FIELD: measure.measured(seen) for measure in _measures()}


@cache
def _measures() -> tuple[ModuleType, ...]:
    return tuple(
        importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
