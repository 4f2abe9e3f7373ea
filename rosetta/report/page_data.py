"""What the page's script draws: the report's stages in columns, its tables in rows, numbers in a few digits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rosetta.report.words import labels, setting
from rosetta.report.worst_stages import worst_stages
from rosetta.strict_json import plain

if TYPE_CHECKING:
    from rosetta.compare.results import StageDiff, WeightDiff, WeightsDiff
    from rosetta.report.report import Report

DIGITS = 4
TOKEN_VALUES = 60_000
"""Numbers of single tokens in a page, some 7 bytes each: a 32-layer report stays under 1.5 MB with any prompt."""


def page_data(report: Report) -> dict[str, Any]:
    """The report as the page's script reads it; plain JSON values, NaN and Inf as strings."""
    every, tokens = _tokens_shown(report.stages)
    told = worst_stages(report.stages)
    return dict(
        plain(
            {
                "label": labels(report),
                "reference": report.reference,
                "threshold": report.threshold,
                "stages": [
                    _stage(stage, report.threshold, every, tokens) | (_parts(stage) if stage.name in told else {})
                    for stage in report.stages
                ],
                "token_step": every,
                "first": report.first_divergence.name if report.first_divergence else None,
                "at": {
                    finding.evidence.stage: finding.kind
                    for finding in reversed(report.findings)
                    if finding.evidence is not None
                },
                "tokens": {"left": report.tokens.left, "right": report.tokens.right},
                "config": [
                    [key.key, setting(key.left), setting(key.right), key.status, key.note]
                    for key in report.config
                ],
                "weights": _weights(report.weights),
                "weights_measured": [
                    _measured(weight)
                    for weight in report.weights.differing_tensors
                    if weight.spectrum is not None or weight.block_map is not None
                ],
                "weights_compared": report.weights.model_dump(
                    include={"compared", "identical_bytes", "within_noise", "differing"}
                ),
                "logits": report.logits.model_dump() if report.logits else None,
                "refuted": [
                    [tried.kind, tried.tensor or tried.key, tried.stage, _short(tried.before), _short(tried.after)]
                    for tried in report.refuted
                ],
                "run": _run(report) | _options(report),
            }
        )
    )  # fmt: skip


def _weights(weights: WeightsDiff) -> list[list[Any]]:
    """Rows of weights that differ, or that a side lacks."""
    rows: list[list[Any]] = [
        [
            weight.name, weight.left_dtype, weight.right_dtype, _dims(weight.left_dims), _dims(weight.right_dims),
            _short(weight.rel_rmse), _short(weight.predicted), _short(weight.cosine), weight.note,
        ]
        for weight in weights.differing_tensors
    ]  # fmt: skip
    for left, right, names in ((None, "there", weights.missing_left), ("there", None, weights.missing_right)):
        rows += [[name, left, right, None, None, None, None, None, "missing"] for name in names]
    return rows


def _measured(weight: WeightDiff) -> dict[str, Any]:
    """How and where one weight differs."""
    blocks = weight.block_map
    return {
        "name": weight.name,
        "spectrum": None if weight.spectrum is None else [_short(value) for value in weight.spectrum],
        "map": None
        if blocks is None
        else blocks.model_dump() | {"values": [[_short(value) for value in row] for row in blocks.values]},
    }


def _tokens_shown(stages: list[StageDiff]) -> tuple[int, frozenset[str]]:
    """How many tokens share a number, and of which operations single tokens are shown: all, where there is room."""
    measured = [stage for stage in stages if stage.by_token]
    if sum(len(stage.by_token or ()) for stage in measured) <= TOKEN_VALUES:
        return 1, frozenset(stage.op for stage in measured)
    kept = [stage for stage in measured if stage.layer is None or stage.op == "residual"]
    total = sum(len(stage.by_token or ()) for stage in kept)
    return max(1, math.ceil(total / TOKEN_VALUES)), frozenset(stage.op for stage in kept)


def _stage(stage: StageDiff, threshold: float, every: int, tokens: frozenset[str]) -> dict[str, Any]:
    """One stage; what is null or the same for most is left out."""
    limit = threshold * max(1.0, stage.scale or 0.0)
    local = stage.local
    fields = {
        "name": stage.name,
        "layer": stage.layer,
        "op": stage.op,
        "status": stage.status,
        "dims": _dims(stage.right_dims or stage.left_dims),
        "other_dims": _dims(stage.left_dims) if stage.left_dims != stage.right_dims else None,
        "max": _short(stage.max_diff),
        "mean": _short(stage.mean_diff),
        "size": _short(stage.scale),
        "rel": _short(stage.rel),
        "l2": _short(stage.rel_l2),
        "cosine": None if stage.cosine is None else float(f"{stage.cosine:.8g}"),
        "limit": _short(limit),
        "over": _short(stage.max_diff / limit if stage.max_diff is not None and limit else None),
        "worst": stage.worst.model_dump() if stage.worst else None,
        "local": _short(local.max_diff) if local else None,
        "predicted": _short(local.predicted_max_diff) if local else None,
        "noise": _short(local.worst_ratio) if local else None,
        "nonfinite": stage.nonfinite.model_dump() if stage.nonfinite.left or stage.nonfinite.right else None,
        "by_token": _by_token(stage, every) if stage.op in tokens else None,
        "witness": stage.witness,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _parts(stage: StageDiff) -> dict[str, Any]:
    """What is known of a stage's heads and experts."""
    fields: dict[str, Any] = {}
    if stage.by_head is not None:
        fields["by_head"] = [_short(value) for value in stage.by_head]
    if stage.by_expert is not None:
        of = stage.by_expert
        fields["by_expert"] = [_short(value) for value in of.max_diff]
        fields["sent"] = {"left": of.left, "right": of.right}
    return fields


def _by_token(stage: StageDiff, every: int) -> list[float | None]:
    """The largest difference of each token, or of each few where there are too many."""
    values = stage.by_token or []
    groups = (values[i : i + every] for i in range(0, len(values), every))
    return [_short(max(group, key=lambda x: math.inf if math.isnan(x) else x)) for group in groups]


def _run(report: Report) -> dict[str, Any]:
    """How it was run, a line each."""
    facts: dict[str, Any] = {"rosetta": report.tool.version, "reference": report.reference}
    if report.run is not None:
        run = report.run
        facts |= {
            "run": run.id,
            "started": run.started,
            "command": " ".join(run.argv),
            "host": f"{run.host.name}, {run.host.system}, {run.host.machine}, {run.host.cpus} CPUs",
            "versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        }
        if run.git is not None:
            facts["git"] = f"{run.git.commit} {run.git.branch or ''}{' (changed)' if run.git.dirty else ''}"
    for side in ("left", "right"):
        operand = getattr(report, side)
        facts[f"{side} header sha256"] = operand.header_sha256
        facts[f"{side} sha256"] = operand.sha256
        if operand.remote is not None:
            facts[f"{side} fetched"] = f"{operand.remote.fetched_bytes:,} of {operand.file_bytes:,} bytes"
            facts[f"{side} revision"] = operand.remote.revision or ", ".join(operand.remote.versions.values())
    timing = report.timing
    facts["seconds"] = (
        f"load {timing.load_s:.2f}, compare {timing.compare_s:.2f}, diagnose {timing.diagnose_s:.2f}, "
        f"in all {timing.total_s:.2f}"
    )
    facts["peak memory"] = f"{report.peak_rss_bytes / 2**20:.0f} MiB"
    facts["compared"] = ", ".join(f"{count} {what}" for what, count in report.compared.model_dump().items())
    return {key: value for key, value in facts.items() if value is not None}


def _options(report: Report) -> dict[str, str]:
    """What was asked for, a line each; of what was left out none."""
    asked = {} if report.options is None else report.options.model_dump()
    said = {key: _said(value) for key, value in asked.items()}
    return {f"option {key.replace('_', ' ')}": value for key, value in said.items() if value}


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items())
    return "" if value is None else str(value)


def _dims(dims: list[int] | None) -> str | None:
    return None if dims is None else str(dims)


def _short(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return value
    return float(f"{value:.{DIGITS}g}")
