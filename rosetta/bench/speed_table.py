"""Costs as tables for people and as JSON for programs."""

from __future__ import annotations

import json
import os
from typing import Any

from tabulate import tabulate

from rosetta import __version__
from rosetta.bench.speed import CLEAN, EARLY, LATE, MIXED, Measured, Row
from rosetta.bench.speed_process import Costs
from rosetta.bench.speed_yardsticks import PACKAGES

SCHEMA_VERSION = "1.0"
COSTS = ("best s", "median s", "processor s", "peak MiB")
OURS = (CLEAN, EARLY, LATE, MIXED)


def render(measured: Measured) -> str:
    """The tables, and on what they were measured."""
    parts = [_heading(measured)]
    if measured.rows:
        parts += [_rows_table(measured), *_skipped(measured)]
    for series in dict.fromkeys(point.series for point in measured.points):
        parts.append(_growth_table(measured, series))
    return "\n\n".join(parts) + "\n"


def _heading(measured: Measured) -> str:
    shape, load = measured.shape, " to ".join(f"{value:.1f}" for value in measured.load)
    size = f", both files {measured.file_bytes / 2**20:,.0f} MiB" if measured.file_bytes else ""
    return (
        f"{shape.name}: {shape.architecture}, {shape.layers} layers, hidden {shape.hidden}, vocabulary "
        f"{shape.vocabulary:,}, {shape.parameters / 1e9:.2f} billion weights, Q4_K_M{size}; "
        f"{measured.tokens} tokens; {os.cpu_count()} cores, load {load}."
    )


def _rows_table(measured: Measured) -> str:
    peers = [row for row in measured.rows if row.name in PACKAGES and row.costs is not None]
    headers = (
        "process",
        *COSTS,
        *(f"time × {peer.name}" for peer in peers),
        *(f"memory × {peer.name}" for peer in peers),
    )
    lines = []
    for row in measured.rows:
        if row.costs is not None:
            times, memory = _ratios(row, peers)
            lines.append([row.name, *_cells(row.costs), *times, *memory])
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True)


def _ratios(row: Row, peers: list[Row]) -> tuple[list[str], list[str]]:
    """Best wall time and peak memory over each peer's."""
    if row.name not in OURS or row.costs is None:
        return ["–"] * len(peers), ["–"] * len(peers)
    known = [peer.costs for peer in peers if peer.costs is not None]
    return (
        [f"{row.costs.best_s / costs.best_s:.2f}" for costs in known],
        [f"{row.costs.peak_bytes / costs.peak_bytes:.2f}" for costs in known],
    )


def _skipped(measured: Measured) -> list[str]:
    return [f"{row.name} was not run: {row.note}." for row in measured.rows if row.costs is None]


def _growth_table(measured: Measured, series: str) -> str:
    points = [point for point in measured.points if point.series == series]
    lines = [[str(p.value), f"{p.file_bytes / 2**20:,.0f}", *_cells(p.costs)] for p in points]
    return tabulate(lines, (series, "files MiB", *COSTS), tablefmt="github", disable_numparse=True)


def _cells(costs: Costs) -> list[str]:
    seconds = [f"{value:.2f}" for value in (costs.best_s, costs.median_s, costs.processor_s)]
    return [*seconds, f"{costs.peak_bytes / 2**20:,.0f}"]


def to_json(measured: Measured) -> str:
    """Everything as strict JSON."""
    shape = measured.shape
    document = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "rosetta", "version": __version__},
        "shape": vars(shape) | {"parameters": shape.parameters},
        "tokens": measured.tokens,
        "file_bytes": measured.file_bytes,
        "cores": os.cpu_count(),
        "load": list(measured.load),
        "rows": [{"name": row.name, "note": row.note, **_costs(row.costs)} for row in measured.rows],
        "growth": [
            {"series": p.series, "value": p.value, "file_bytes": p.file_bytes, **_costs(p.costs)}
            for p in measured.points
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _costs(costs: Costs | None) -> dict[str, Any]:
    """Null where nothing ran."""
    keys = ("best_s", "median_s", "processor_s", "peak_bytes")
    summary = {key: None if costs is None else getattr(costs, key) for key in keys}
    return summary | {"runs": [] if costs is None else [vars(run) for run in costs.runs]}
