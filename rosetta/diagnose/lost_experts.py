"""Experts that a file lacks are one finding: a tensor of each in every layer says what one sentence says.

A mixture that was pruned lacks experts and often rows of its routers, too; one of which a shard was never written lacks
experts alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rosetta.compare.results import Finding
from rosetta.diagnose.trained_part import ranges

MANY = 4  # tensors: of fewer their own findings are as short
EXPERT = re.compile(r"blk\.(\d+)\.ffn_\w+_exps\.(\d+)\.")
ROUTER = re.compile(r"blk\.(\d+)\.(?:ffn_gate_inp|exp_probs_b)\b")
COUNT, MISSING = "expert_count", "value.missing"


def told_at_once(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, those of a side's lost experts in one, with those of routers that have fewer rows."""
    told, sides = list(findings), dict.fromkeys(finding.side for finding in findings)
    for side in sides:
        own = [finding for finding in told if finding.side == side]
        lost = [finding for finding in own if _is_lost(finding)]
        counted = [finding for finding in own if finding.key == COUNT]
        routers = _of_routers(own)
        if (len(lost) < MANY and not counted) or not (lost or routers):
            continue
        gone = [f for f in told if any(f is g for g in (*counted, *lost, *routers))]
        one = _with_routers(counted[0], routers) if counted else _of_lost(gone, lost, routers)
        told = [one if f is gone[0] else f for f in told if f is gone[0] or all(f is not g for g in gone)]
    return told


def _is_lost(finding: Finding) -> bool:
    whole = finding.declared is None and finding.actual is None
    return finding.kind == MISSING and whole and EXPERT.match(finding.tensor or "") is not None


def _of_routers(own: Sequence[Finding]) -> list[Finding]:
    """Findings of routers a part of whose rows is missing; and those that nothing explains, where others are so."""
    routers = [finding for finding in own if ROUTER.match(finding.tensor or "")]
    cut = [finding for finding in routers if finding.kind == MISSING]
    return [finding for finding in routers if cut and finding.kind in (MISSING, "unexplained")]


def _of_lost(gone: Sequence[Finding], lost: Sequence[Finding], routers: Sequence[Finding]) -> Finding:
    of_layer: dict[int, set[int]] = {}
    for finding in lost:
        layer, expert = _numbers(EXPERT, finding)
        of_layer.setdefault(layer, set()).add(expert)
    one, *others = of_layer.values()
    which = f"experts {ranges(sorted(one))}" if all(more == one for more in others) else "experts"
    known = "have no rows for them" if routers else "know them"
    why = "it was pruned" if routers else "it was pruned, or a part of it was never written"
    return _one(
        gone,
        f"{which} of layers {ranges(sorted(of_layer))} are missing, {len(lost)} tensors; the routers {known}: {why}",
        "export all experts again; of a model that was pruned on purpose, which is another one, write the number of "
        "experts and the routers' rows as they are now",
    )


def _with_routers(counted: Finding, routers: Sequence[Finding]) -> Finding:
    """What says that a file counts fewer experts, and that its routers do."""
    if not routers:
        return counted
    layers = ranges(sorted({_numbers(ROUTER, finding)[0] for finding in routers}))
    message = f"{counted.message}; the routers of layers {layers} have fewer rows: it was pruned"
    recommendation = f"if it was pruned on purpose, it is another model; else {counted.recommendation}"
    return counted.model_copy(update={"message": message, "recommendation": recommendation})


def _one(found: Sequence[Finding], message: str, recommendation: str) -> Finding:
    """One finding in place of some."""
    shown = [finding for finding in found if finding.status == "confirmed"] or found
    update = {
        "tensor": None,
        "layer": None,
        "left_name": None,
        "right_name": None,
        "declared": None,
        "actual": None,
        "latent": all(finding.latent for finding in found),
        "message": message,
        "recommendation": recommendation,
    }
    return shown[0].model_copy(update=update)


def _numbers(pattern: re.Pattern[str], finding: Finding) -> list[int]:
    match = pattern.match(finding.tensor or "")
    return [] if match is None else [int(number) for number in match.groups()]
