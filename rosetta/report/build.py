"""A finished comparison as the typed report."""

from __future__ import annotations

import resource
import sys
from collections import Counter

from rosetta import __version__
from rosetta.compare.options import LIVE
from rosetta.compare.results import Side
from rosetta.compare.verdict import first_divergence
from rosetta.diagnose.comparison import Comparison
from rosetta.model import Model
from rosetta.report.report import Report, SideFacts, Timing, Tool

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB elsewhere


def build_report(comparison: Comparison) -> Report:
    """The report of a comparison, with the process's peak memory as of now."""
    c, options = comparison, comparison.options
    return Report(
        tool=Tool(version=__version__),
        verdict=c.verdict,
        reason=c.reason,
        left=_facts(c, "left"),
        right=_facts(c, "right"),
        reference=options.reference,
        prompt=c.prompt,
        threshold=options.threshold,
        tokens=c.tokens,
        config=c.config,
        weights=c.weights,
        stages=c.stages,
        first_divergence=first_divergence(c.verdict, c.tokens, c.stages),
        findings=c.findings,
        refuted=c.refuted,
        logits=c.logits,
        compared=c.compared,
        timing=Timing(
            load_s=c.load_s,
            compare_s=max(0.0, c.total_s - c.load_s - c.diagnose_s),
            diagnose_s=c.diagnose_s,
            total_s=c.total_s,
        ),
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT,
        notes=c.notes,
    )


def _facts(c: Comparison, side: Side) -> SideFacts:
    model = c.models[side]
    dtypes = Counter(entry.dtype for entry in model.container.tensors.values())
    return SideFacts(
        operand=c.operands[side],
        path=str(model.container.path),
        container=model.container.kind,
        runtime=_runtime(model),
        device=c.options.left_device if side == "left" else c.options.right_device,
        architecture=model.architecture.gguf,
        parameters=model.parameters,
        dtypes=dict(dtypes.most_common()),
        file_bytes=model.container.file_bytes,
    )


def _runtime(model: Model) -> str:
    """Who computed a side: a recording that was made for this comparison names its runtime."""
    if model.container.kind != "trace":
        return "torch"
    named = model.container.metadata.get("runtime")
    return named if named in LIVE else "trace"
