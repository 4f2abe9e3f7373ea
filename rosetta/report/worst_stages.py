"""Which stages a report says more of: those at fault, and those that differ most beside their own size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rosetta.compare.results import OF_THE_WORST, StageDiff

MEASURES = tuple(name for name, field in StageDiff.model_fields.items() if OF_THE_WORST in field.metadata)
"""Fields of a stage: what is said of some stages alone."""
NUMBERS = 8000
"""How many of them a report holds: some 60 KB. One stage of 32 heads is 32, of 128 experts 384."""


def worst_stages(stages: Iterable[StageDiff]) -> frozenset[str]:
    """The names of the stages of which heads and experts are told: those at fault first, then the worst others."""
    left, told = NUMBERS, []
    for stage in sorted(stages, key=_badness, reverse=True):  # stable: of two at fault the earlier one
        size = sum(_count(getattr(stage, name)) for name in MEASURES)
        if 0 < size <= left:
            left -= size
            told.append(stage.name)
    return frozenset(told)


def _badness(stage: StageDiff) -> float:
    """The difference beside the stage's own size; NaN is as bad as it gets."""
    rel = stage.rel_l2
    return float("inf") if stage.status == "faulty" or rel is None or rel != rel else float(rel)


def _count(measured: Any) -> int:
    """Numbers of a measure."""
    if measured is None:
        return 0
    if isinstance(measured, list):
        return len(measured)
    return sum(_count(value) for _, value in measured)
