"""Scores as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from tabulate import tabulate

from rosetta import __version__
from rosetta.bench.case import Shown
from rosetta.bench.peers import LOGITS_RULES, RULES
from rosetta.bench.run import Score
from rosetta.report.report import json_text

HEADERS = (
    "kind",
    "cases",
    "detected",
    "located",
    "named",
    "confirmed",
    "accused",
    "all right",
    "median s",
    "max s",
)
TOTAL, CLEAN = "total", "clean"
APART = (Shown.small.value, Shown.latent.value, Shown.noise.value)
"""Rows that no total counts: they have expectations of their own."""
SCHEMA_VERSION = "1.0"


def render(scores: Sequence[Score], kinds: Sequence[str], seed: int) -> str:
    """The tables and what did not come out right.

    Args:
        scores: of the cases.
        kinds: in the order of the rows.
        seed: of the first case.
    """
    rows = summary(scores, kinds)
    table = tabulate([_cells(row) for row in rows], HEADERS, tablefmt="github", disable_numparse=True)
    parts = [
        f"{len(scores)} cases, seeds {seed} to {seed + len(scores) - 1}.",
        table,
        _peers_table(scores),
        _explained(),
    ]
    missed = [score for score in scores if not score.perfect]
    if missed:
        parts.append("Not all right:\n" + "\n".join(map(_missed, missed)))
    return "\n\n".join(parts) + "\n"


def summary(scores: Sequence[Score], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each kind that has cases, the total of those that show on their prompt, then the rows apart."""
    by_row: dict[str, list[Score]] = {name: [] for name in (*kinds, *APART)}
    for score in scores:
        by_row[score.case.row].append(score)
    faults = [score for name in kinds if name != CLEAN for score in by_row[name]]
    order = [(name, by_row[name]) for name in kinds if name != CLEAN]
    order += [(TOTAL, faults), (CLEAN, by_row.get(CLEAN, [])), *((name, by_row[name]) for name in APART)]
    return [_row(name, found) for name, found in order if found]


def _row(name: str, scores: Sequence[Score]) -> dict[str, Any]:
    silent = name in (CLEAN, Shown.noise.value)  # nothing is there that should be found
    counts = {key: None if silent else sum(getattr(s, key) for s in scores) for key in HEADERS[2:6]}
    if name == Shown.latent.value:
        counts |= {
            "located": None,
            "confirmed": None,
        }  # what does not move has no place and cannot be moved back
    return {
        "kind": name,
        "cases": len(scores),
        **counts,
        "accused": sum(bool(s.accused) for s in scores),
        "all_right": sum(s.perfect for s in scores),
        "median_s": median(s.seconds for s in scores),
        "max_s": max(s.seconds for s in scores),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
        for value in row.values()
    ]


def peers(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Each rule on the same cases: those that show on their prompt, and the clean controls."""
    shown, clean = _comparable(scores)
    return [
        {
            "rule": rule,
            "cases": len(shown),
            "detected": sum(s.peers.get(rule, (False, False))[0] for s in shown),
            "located": None
            if rule in LOGITS_RULES
            else sum(s.peers.get(rule, (False, False))[1] for s in shown),
            "clean": len(clean),
            "false_alarms": sum(s.peers.get(rule, (False, False))[0] for s in clean),
        }
        for rule in RULES
    ]


def _peers_table(scores: Sequence[Score]) -> str:
    shown, clean = _comparable(scores)
    own = ["rosetta", len(shown), sum(s.detected for s in shown), sum(s.located for s in shown), len(clean)]
    rows = [[*own, sum(bool(s.accused) for s in clean)], *(list(row.values()) for row in peers(scores))]
    headers = ("rule", "cases", "detected", "located", "clean", "false alarms")
    cells = [["–" if value is None else str(value) for value in row] for row in rows]
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True)


def _comparable(scores: Sequence[Score]) -> tuple[list[Score], list[Score]]:
    """The cases that show on their prompt, without those that have no second file; the clean controls."""
    shown = [s for s in scores if s.case.plants and s.case.shown is Shown.yes and not s.case.subject.recorded]
    return shown, [s for s in scores if not s.case.plants]


def _explained() -> str:
    return "\n".join(f"{name}: {text}" for name, text in zip(APART, _MEANINGS, strict=True))


_MEANINGS = (
    "the stage moves, by less than twice the threshold; a proven finding is due, either verdict is right.",
    "this prompt cannot show it; a latent finding is due, and no `divergent`.",
    "the dtypes explain as much; nothing may be accused but what was planted.",
)


def _missed(score: Score) -> str:
    case, subject = score.case, score.case.subject
    wanted = ", ".join(f"{'/'.join(cause.kinds)} {(cause.subjects or ('',))[0]}" for cause in case.causes)
    return (
        f"- --kinds '{case.kind}' --seed {case.seed} --cases 1: {subject.spec.architecture} {subject.operand} "
        f"against {subject.other_operand}, {' '.join(case.faults)}; wanted {wanted} at {case.stage}; got {score.got}"
    )


def to_json(scores: Sequence[Score], kinds: Sequence[str], seed: int) -> str:
    """All of it as strict JSON: the rows, the peers' rules, and each case."""
    return json_text(
        {
            "schema_version": SCHEMA_VERSION,
            "tool": {"name": "rosetta", "version": __version__},
            "seed": seed,
            "cases": len(scores),
            "rows": summary(scores, kinds),
            "peers": peers(scores),
            "scores": [_score(score) for score in scores],
        }
    )


def _score(score: Score) -> dict[str, Any]:
    case, subject = score.case, score.case.subject
    return {
        "kind": case.kind,
        "seed": case.seed,
        "row": case.row,
        "architecture": subject.spec.architecture,
        "faulty": subject.operand,
        "other": subject.other_operand,
        "side": subject.side,
        "tokens": len(subject.ids),
        "faults": list(case.faults),
        "shown": case.shown.value if case.plants else None,
        "stage": case.stage,
        "causes": [{"kinds": list(c.kinds), "subjects": list(c.subjects)} for c in case.causes],
        "detected": score.detected,
        "located": score.located,
        "named": score.named,
        "confirmed": score.confirmed,
        "accused": list(score.accused),
        "all_right": score.perfect,
        "seconds": score.seconds,
        "peers": {rule: {"detected": d, "located": placed} for rule, (d, placed) in score.peers.items()},
        "got": score.got,
    }
