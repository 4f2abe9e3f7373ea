"""A report as a notebook shows it: a fragment of HTML without scripts, and tables for pandas."""

from __future__ import annotations

from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from rosetta.errors import UsageError, one_line
from rosetta.report.causes import causes, diagnosis, proof
from rosetta.report.summary import verdict_line
from rosetta.report.words import labels, stage_place, times, worst_against_noise

if TYPE_CHECKING:
    from rosetta.report.report import Report

Name = Literal["stages", "findings", "config", "weights", "refuted", "tokens"]
COLOURS = {
    "match": "#116329",
    "drift": "#7a4d00",
    "divergent": "#b3121d",
    "inconclusive": "#57606a",
    "error": "#b3121d",
}
MARKS = {"ok": "✓", "drift": "~", "carried": "→", "faulty": "✗", "skipped": ""}


def fragment(report: Report) -> str:
    """The verdict, its causes with their proofs, and a line a layer; colours say nothing that no word says."""
    label = labels(report)
    badge = f"border:2px solid {COLOURS[report.verdict]};border-radius:.4em;padding:0 .4em"
    parts = [f'<p><strong style="{badge}">{report.verdict}</strong> {_text(verdict_line(report))}</p>']
    for cause in causes(report.findings):
        proven = proof(cause)
        where = f" at {_text(cause.said_of_all(stage_place(cause.stage)))}" if cause.stage else ""
        parts.append(
            f"<p><code>{_text(cause.first.kind)}</code>{where} ({cause.first.status}): "
            f"{_text(diagnosis(cause, label))}" + (f"<br>proof: {_text(proven)}" if proven else "") + "</p>"
        )
    rows = []
    for name, group in groupby(report.stages, lambda s: s.op if s.layer is None else f"Layer {s.layer}"):
        stages = list(group)
        marks = "".join(
            f'<td title="{_text(stage.name)}: {stage.status}">{MARKS[stage.status]}</td>' for stage in stages
        )
        worst = worst_against_noise(stages)
        ratio = times(worst.local.worst_ratio) if worst is not None and worst.local is not None else ""
        rows.append(f'<tr><th scope="row">{_text(name)}</th><td>{ratio}</td>{marks}</tr>')
    if rows:
        head = '<tr><th></th><th scope="col">local error / noise</th></tr>'
        body = f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
        parts.append(f"<details><summary>Layers</summary>{body}</details>")
    return f"<div>{''.join(parts)}</div>"


def table(report: Report, name: Name) -> Any:
    """A part of the report as a pandas DataFrame, nested facts in columns with a dot.

    Raises:
        UsageError: pandas is not installed, or there is no such table.
    """
    rows = _rows(report, name)
    try:
        import pandas
    except ImportError as error:
        raise UsageError("tables are pandas', which is not installed", remedy="pip install pandas") from error
    return pandas.DataFrame.from_records([_flat(row) for row in rows])


def _rows(report: Report, name: str) -> list[dict[str, Any]]:
    if name == "weights":
        return [weight.model_dump() for weight in report.weights.differing_tensors]
    if name == "tokens":
        sides = (report.tokens.left, report.tokens.right)
        longest = max(map(len, sides))
        left, right = ([*ids, *[None] * (longest - len(ids))] for ids in sides)
        return [
            {"position": i, "left": a, "right": b} for i, (a, b) in enumerate(zip(left, right, strict=True))
        ]
    if name not in ("stages", "findings", "config", "refuted"):
        raise UsageError(
            f"there is no table {name!r:.40}",
            remedy="stages, findings, config, weights, refuted and tokens are there",
        )
    return [row.model_dump() for row in getattr(report, name)]


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts side by side: `local.max_diff`."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict) and key in ("local", "worst", "nonfinite", "evidence"):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _text(text: str) -> str:
    return escape(one_line(text))
