"""A runtime whose process died on a file: what it printed is a finding of its side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rosetta.compare.results import Finding, Side
from rosetta.model import Model


def crash_findings(models: Mapping[Side, Model]) -> Iterator[Finding]:
    """A finding for each side whose run was recorded until its runtime died."""
    for side, model in models.items():
        facts = model.container.metadata
        failure = facts.get("failure") if model.container.kind == "trace" else None
        if not isinstance(failure, dict):
            continue
        yield Finding(
            kind="runtime.crash",
            side=side,
            actual=str(failure.get("printed", "")) or None,
            message=f"{facts.get('runtime', 'the runtime')} does not live through the file: {failure.get('message')}",
            recommendation="send the file and what it printed to the makers of the runtime",
            status="confirmed",
        )
