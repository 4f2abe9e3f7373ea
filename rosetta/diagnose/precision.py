"""Another arithmetic, confirmed by imitating it: why two sides drift that are both right."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.compare.lockstep import LockstepResult
from rosetta.compare.results import Evidence, Finding, Side


def precision_findings(result: LockstepResult, side: Side, runtime: str) -> Iterator[Finding]:
    """A finding for each stage that a runtime's own arithmetic explains; none where all stages stay below the
    threshold: what is not seen wants no explanation.

    Args:
        result: of the run.
        side: the runtime's.
        runtime: its name.
    """
    if not result.over_threshold:
        return
    for stage in result.explained:
        yield Finding(
            kind="runtime.precision",
            side=side,
            layer=stage.layer,
            message=f"{stage.name} is computed by {runtime} {stage.explained.words}: no fault of the file",
            recommendation="nothing is to be mended; a threshold above it lets it pass in silence",
            status="confirmed",
            evidence=Evidence(
                stage=stage.name,
                before=stage.explained.before.max_diff,
                after=stage.after.max_diff,
                predicted=stage.after.predicted_max_diff,
                ratio_before=stage.explained.before.worst_ratio,
                ratio_after=stage.after.worst_ratio,
            ),
        )
