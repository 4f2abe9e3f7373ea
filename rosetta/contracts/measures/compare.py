"""`compare`: what a comparison of two models says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rosetta.compare.options import DEFAULT_PROMPT, Options
from rosetta.contracts.arguments import COMPARISON
from rosetta.contracts.measures import Facts, Ground
from rosetta.report.report import Report

ARGUMENTS = COMPARISON


def measure(arguments: Mapping[str, Any], ground: Ground) -> Facts:
    """Compare `left` with `right` on `prompt` or `tokens`.

    `verdict`; `kinds` of all findings, `latent` of those that do not show; `at` where the first fault shows; counts of
    the weights: `identical`, `within_noise`, `differing`; `tokens_match`; `confirmed`: whether each finding is proven.
    """
    report = compared(arguments, ground)
    first = report.first_divergence
    return {
        "verdict": report.verdict,
        "kinds": sorted({finding.kind for finding in report.findings}),
        "latent": sorted({finding.kind for finding in report.findings if finding.latent}),
        "confirmed": all(finding.latent or finding.status == "confirmed" for finding in report.findings),
        "at": None if first is None else first.name,
        "identical": report.weights.identical_bytes,
        "within_noise": report.weights.within_noise,
        "differing": report.weights.differing,
        "tokens_match": report.tokens.match,
    }


def compared(arguments: Mapping[str, Any], ground: Ground) -> Report:
    """The report of it."""
    from rosetta.diagnose import compare_operands  # imports torch: not before there is something to compute
    from rosetta.report.build import build_report

    tokens = arguments.get("tokens")
    options = Options(
        prompt=arguments.get("prompt", DEFAULT_PROMPT), tokens=None if tokens is None else tuple(tokens)
    )
    left, right = (ground.model(arguments[side], side) for side in ("left", "right"))
    return build_report(compare_operands(left, right, options))
