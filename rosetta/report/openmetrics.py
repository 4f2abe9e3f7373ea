"""The report as gauges for Prometheus: the textfile collector's format and OpenMetrics at once.

Gauges only, HELP and TYPE first, the samples of one metric together, `# EOF` last: such a file is valid in both
formats. No timestamps: the textfile collector refuses a file that has any.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from rosetta.report.report import Report

OPTION = "Write gauges for Prometheus."
LONGEST = 60  # characters of a prompt in a label

Samples = Iterator[tuple[dict[str, str], float]]


def render(report: Report) -> str:
    """One report as gauges."""
    return render_all({"": report})


def render_all(reports: Mapping[str, Report]) -> str:
    """Several reports as one set of gauges. Of two reports of one pair and prompt the later one counts."""
    latest: dict[tuple[str, ...], Report] = {}
    for report in sorted(reports.values(), key=lambda report: report.run.started if report.run else ""):
        latest[tuple(_pair(report).values())] = report
    lines = []
    for gauge in GAUGES:
        samples = [
            f"{gauge.name}{_labels(_pair(report) | labels)} {_value(value)}"
            for report in latest.values()
            for labels, value in gauge.samples(report)
        ]
        if samples:
            lines += [f"# HELP {gauge.name} {gauge.help}", f"# TYPE {gauge.name} gauge", *samples]
    return "\n".join([*lines, "# EOF"]) + "\n"


@dataclass(frozen=True)
class Gauge:
    """One metric: its name, what it means, its values in a report."""

    name: str
    help: str
    samples: Callable[[Report], Samples]


def _pair(report: Report) -> dict[str, str]:
    """What tells the series of one comparison from those of another."""
    prompt = report.prompt if report.prompt is not None else str(report.tokens.left)
    if len(prompt) > LONGEST:
        prompt = f"{prompt[:LONGEST]}… {hashlib.sha256(prompt.encode('utf-8', 'replace')).hexdigest()[:8]}"
    return {"left": report.left.operand, "right": report.right.operand, "prompt": prompt}


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    """A label's value: any UTF-8, with these three spelled (OpenMetrics 1.0, "escaped-string")."""
    value = value.encode("utf-8", "replace").decode("utf-8").replace("\r", " ")
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _value(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(float(value)) if math.isfinite(value) else ("+Inf" if value > 0 else "-Inf")


def _verdict(report: Report) -> Samples:
    from rosetta.compare.results import Verdict  # imports pydantic: not at the program's start

    for verdict in get_args(Verdict):  # a series for each, so that a query finds the one that is 1
        yield {"verdict": verdict}, float(report.verdict == verdict)


def _passed(report: Report) -> Samples:
    if report.assertion.passed is not None:
        yield {}, float(report.assertion.passed)


def _started(report: Report) -> Samples:
    if report.run is not None:
        yield {}, datetime.fromisoformat(report.run.started).timestamp()


def _statuses(report: Report) -> Samples:
    for status in ("ok", "faulty", "drift", "carried", "skipped"):
        yield {"status": status}, float(sum(stage.status == status for stage in report.stages))


def _findings(report: Report) -> Samples:
    for status in ("confirmed", "suspected"):
        for latent in (False, True):
            counted = [f for f in report.findings if f.status == status and f.latent == latent]
            yield {"status": status, "latent": str(latent).lower()}, float(len(counted))


def _first(report: Report) -> Samples:
    if report.first_divergence is not None:
        yield {"stage": report.first_divergence.name}, 1.0


def _by_layer(report: Report, value: Callable[..., float | None]) -> Samples:
    """The worst of each layer, and of each stage outside the layers under its own name."""
    for name, group in groupby(report.stages, lambda s: s.op if s.layer is None else str(s.layer)):
        values = [found for stage in group if (found := value(stage)) is not None]
        if values:
            yield {"layer": name}, max(values, key=lambda x: math.inf if math.isnan(x) else x)


def _difference(report: Report) -> Samples:
    yield from _by_layer(report, lambda stage: stage.rel)


def _noise(report: Report) -> Samples:
    yield from _by_layer(report, lambda stage: stage.local.worst_ratio if stage.local else None)


def _kl(report: Report) -> Samples:
    if report.logits is not None and report.logits.kl is not None:
        yield {}, report.logits.kl


def _agree(report: Report) -> Samples:
    if report.logits is not None and report.logits.argmax_match is not None:
        yield {}, float(report.logits.argmax_match)


def _weights(report: Report) -> Samples:
    for what in ("compared", "identical_bytes", "within_noise", "differing"):
        yield {"state": what}, float(getattr(report.weights, what))


def _seconds(report: Report) -> Samples:
    for part in ("load", "compare", "diagnose", "total"):
        yield {"part": part}, getattr(report.timing, f"{part}_s")


def _memory(report: Report) -> Samples:
    yield {}, float(report.peak_rss_bytes)


GAUGES = (
    Gauge("rosetta_verdict", "1 for the verdict of the comparison, 0 for all others.", _verdict),
    Gauge("rosetta_passed", "1 where the assertion holds, 0 where not; absent where none was made.", _passed),
    Gauge("rosetta_started_timestamp_seconds", "When the comparison began, Unix time.", _started),
    Gauge("rosetta_stages", "Stages of the forward pass by status.", _statuses),
    Gauge("rosetta_findings", "Diagnosed causes.", _findings),
    Gauge("rosetta_first_divergence", "1 for the first faulty stage; absent without a divergence.", _first),
    Gauge(
        "rosetta_relative_difference", "Largest difference over the size of its stage, a layer.", _difference
    ),
    Gauge(
        "rosetta_noise_ratio",
        "Largest local error over its predicted noise, a layer; above 1 a fault.",
        _noise,
    ),
    Gauge("rosetta_logits_kl_nats", "Divergence of the next token's distribution from the reference's.", _kl),
    Gauge("rosetta_next_token_agrees", "1 where both sides would say the same token next.", _agree),
    Gauge("rosetta_weights", "Weights by how they compare.", _weights),
    Gauge("rosetta_duration_seconds", "Wall time of the comparison and its parts.", _seconds),
    Gauge("rosetta_peak_memory_bytes", "Peak resident memory.", _memory),
)
