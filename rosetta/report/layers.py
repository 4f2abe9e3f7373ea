"""Layers as text: those where a fault is first met in full, all others folded, a line for one or several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosetta.report.causes import Cause
from rosetta.report.stages import StageWriter
from rosetta.report.words import counted, times, worst_against_noise, worst_for_its_size

if TYPE_CHECKING:
    from rosetta.compare.results import StageDiff

ROWS = 8
"""Lines for layers in a row of which nothing is wrong, or no more than is said already."""
MARKS = {"ok": "✓", "drift": "~ drift", "carried": "→ carried", "faulty": "✗ faulty"}
GRAVITY = ("ok", "drift", "carried", "faulty")

At = Mapping[str, Sequence[Cause]]
"""The causes found at each stage."""


@dataclass(frozen=True)
class Layer:
    """The stages of one layer, and whether something is told of it in full."""

    number: int
    stages: list[StageDiff]
    told: bool


def layer_lines(writer: StageWriter, stages: Sequence[StageDiff], at: At) -> Iterator[str]:
    """Sections of all layers, in order.

    Args:
        writer: writes single stages.
        stages: those of all layers.
        at: the causes found at each stage, those not shown on this prompt left out.
    """
    run: list[Layer] = []
    for layer in _layers(stages, at):
        if layer.told:
            yield from _folded(run)
            yield from _in_full(writer, layer, at)
            run = []
        else:
            run.append(layer)
    yield from _folded(run)


def _layers(stages: Sequence[StageDiff], at: At) -> Iterator[Layer]:
    """Layers in order. In full: where the first fault is, and where a cause is found first."""
    by_layer: dict[int, list[StageDiff]] = {}
    for stage in stages:
        if stage.layer is not None:
            by_layer.setdefault(stage.layer, []).append(stage)
    fault_seen = any(
        stage.layer is None and stage.status == "faulty" and stage.op == "embedding" for stage in stages
    )
    for number, members in sorted(by_layer.items()):
        faulty = any(stage.status == "faulty" for stage in members)
        told = any(_is_new(stage, at) for stage in members) or (faulty and not fault_seen)
        fault_seen = fault_seen or faulty
        yield Layer(number, members, told)


def _is_new(stage: StageDiff, at: At) -> bool:
    """Whether a cause is found at a stage first."""
    return any(cause.stage == stage.name for cause in at.get(stage.name, ()))


def _in_full(writer: StageWriter, layer: Layer, at: At) -> Iterator[str]:
    """A layer's own section: what is faulty and not explained yet, the other stages in one line."""
    yield from ("", f"=== Layer {layer.number} ===")
    others, seen = [], False
    for stage in layer.stages:
        found = at.get(stage.name, ())
        again = stage.status == "faulty" and seen and not found and writer.diagnosed
        if (stage.status != "faulty" and not _is_new(stage, at)) or stage.status == "skipped" or again:
            others.append(stage)
            continue
        seen = True
        yield from writer.in_layer(stage, found)
    if others:
        compared = [stage for stage in others if stage.status != "skipped"]
        if compared:
            yield f"  {counted(len(compared), 'other stage')}: {_sum(compared, one=True, again=True)}"
    yield from _skipped(layer.stages)


def _folded(run: Sequence[Layer]) -> Iterator[str]:
    """Layers in a row of which nothing new is to be told, in at most `ROWS` lines."""
    if not run:
        return
    first, last = run[0].number, run[-1].number
    one = first == last
    yield from ("", f"=== Layer {first} ===" if one else f"=== Layers {first}-{last} ===")
    step = math.ceil(len(run) / ROWS)
    rows = [run[start : start + step] for start in range(0, len(run), step)]
    if all(stage.max_diff == 0 for layer in run for stage in layer.stages if stage.status == "ok") and _alike(
        run
    ):
        rows = [list(run)]
    spans = [f"{row[0].number}-{row[-1].number}" if len(row) > 1 else str(row[0].number) for row in rows]
    width = max(map(len, spans))
    for span, row in zip(spans, rows, strict=True):
        compared = [stage for layer in row for stage in layer.stages if stage.status != "skipped"]
        if compared:
            name = "" if one else f"{span:<{width}}  "
            yield f"  {name}{_sum(compared, one=one)}"
    yield from _skipped([stage for layer in run for stage in layer.stages])


def _alike(run: Sequence[Layer]) -> bool:
    """Whether all stages of some layers have one status: then one line says it."""
    return all(stage.status in ("ok", "skipped") for layer in run for stage in layer.stages)


def _sum(stages: Sequence[StageDiff], *, one: bool, again: bool = False) -> str:
    """Several stages in one line: how bad the worst is, what is largest for its size, what against its noise.

    Args:
        stages: that were compared.
        one: whether they are of one layer, so that none needs its number; else marks stand in a column.
        again: whether their number is said already.
    """
    status = max((stage.status for stage in stages), key=GRAVITY.index)
    faulty = list(dict.fromkeys(stage.op for stage in stages if stage.status == "faulty"))
    mark = f"{MARKS[status]} in {', '.join(faulty)};" if faulty else MARKS[status]
    measured = [stage for stage in stages if stage.max_diff is not None]
    if measured and all(stage.max_diff == 0 for stage in measured) and len(measured) == len(stages):
        many = "" if again else f"{counted(len(stages), 'stage')}, "
        return f"{mark if one else f'{mark:<9}'} {many}every difference exactly 0"
    parts = []
    if (largest := worst_for_its_size(stages)) is not None:
        parts.append(f"diff/size {times(largest.rel)} ({_where(largest, one)})")
    if (worst := worst_against_noise(stages)) is not None and worst.local is not None:
        parts.append(f"local/noise {times(worst.local.worst_ratio)} ({_where(worst, one)})")
    if len(measured) < len(stages):
        parts.append(f"{counted(len(stages) - len(measured), 'stage')} not comparable")
    return f"{mark if one else f'{mark:<9}'} {', '.join(parts)}"


def _where(stage: StageDiff, one: bool) -> str:
    return stage.op if one else f"{stage.layer} {stage.op}"


def _skipped(stages: Sequence[StageDiff]) -> list[str]:
    names = list(dict.fromkeys(stage.op for stage in stages if stage.status == "skipped"))
    return [f"  skipped: {', '.join(names)}"] if names else []
