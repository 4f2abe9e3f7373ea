"""The report in GitHub Actions: annotations of a step, and its summary in Markdown, both within GitHub's limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rosetta.errors import one_line
from rosetta.report.alerts import LEVELS, alerts
from rosetta.report.causes import causes, diagnosis, proof
from rosetta.report.summary import verdict_line
from rosetta.report.words import SIDES, counted, labels, number, stage_place, times, worst_against_noise

if TYPE_CHECKING:
    from rosetta.compare.results import StageDiff
    from rosetta.report.report import Report

COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}
ANNOTATIONS = 10
"""Of each level in a step; GitHub drops the rest without a word (docs.github.com, "Workflow commands")."""
SUMMARY_BYTES = 1_000_000
"""Of a step's summary, which all its commands share: over 1,048,576 GitHub refuses it whole."""
LAYERS_SHOWN = 200
SYMBOL = {"match": "✅", "drift": "🟡", "divergent": "❌", "inconclusive": "⚪", "error": "❌"}


def commands(report: Report) -> str:
    """Workflow commands, a line each: an annotation for each cause.

    Where there are more than GitHub keeps, the last of a level says how many are left out.
    """
    lines = []
    told = alerts(report, folded=True)
    for level in LEVELS:
        some = [alert for alert in told if alert.level == level]
        shown = some if len(some) <= ANNOTATIONS else some[: ANNOTATIONS - 1]
        for alert in shown:
            place = f"file={_property(alert.file)},line=1," if alert.file else ""
            text = f"{alert.message} {alert.advice}".strip()
            lines.append(
                f"::{COMMANDS[level]} {place}title={_property(f'rosetta: {alert.rule}')}::{_data(text)}"
            )
        if len(shown) < len(some):
            rest = counted(len(some) - len(shown), "more finding")
            lines.append(f"::{COMMANDS[level]} title=rosetta::{rest}: see the step's summary")
    return "".join(line + "\n" for line in lines)


def summary(report: Report, room: int = SUMMARY_BYTES) -> str:
    """A step's summary in Markdown: the verdict, causes with proofs, layers, the next token.

    Args:
        report: what was found.
        room: bytes there are; sections that do not fit are left out, and it says so.
    """
    parts = list(_sections(report))
    text = parts[0]
    for part in parts[1:]:
        if len((text + part).encode("utf-8")) > room - 100:
            return text + "\n_The rest does not fit into a step's summary: see the JSON report._\n"
        text += part
    return text


def _sections(report: Report) -> Iterator[str]:
    label = labels(report)
    left, right = (_code(getattr(report, side).operand) for side in SIDES)
    yield f"### {SYMBOL[report.verdict]} rosetta: {left} and {right}\n\n**{_text(verdict_line(report))}**\n\n"
    for cause in causes(report.findings):
        where = f" at {stage_place(cause.stage)}" if cause.stage else ""
        latent = ", latent" if cause.first.latent else ""
        lines = [
            f"- `{cause.first.kind}`{cause.said_of_all(where)} ({cause.first.status}{latent}): "
            f"{_text(diagnosis(cause, label))}"
        ]
        proven = proof(cause)
        lines += [] if proven is None else [f"  - proof: {_text(proven)}"]
        lines.append(f"  - {_text(cause.said_of_all(cause.first.recommendation))}")
        yield "\n".join(lines) + "\n"
    yield "".join(f"\n> {_text(note)}\n" for note in report.notes)
    compared = [stage for stage in report.stages if stage.op != "tokens"]  # ids have no size
    rows = [
        _row(name, list(group))
        for name, group in groupby(compared, lambda s: s.op if s.layer is None else f"Layer {s.layer}")
    ]
    if rows:
        head = (
            "\n<details><summary>Layers</summary>\n\n| | status | difference / size | local error / noise |\n"
        )
        left_out = f"\n{counted(len(rows) - LAYERS_SHOWN, 'more row')}.\n" if len(rows) > LAYERS_SHOWN else ""
        yield (
            f"{head}| --- | --- | ---: | ---: |\n"
            + "".join(rows[:LAYERS_SHOWN])
            + f"{left_out}\n</details>\n"
        )
    if report.logits is not None and report.logits.left_top and report.logits.right_top:
        best = {"left": report.logits.left_top[0], "right": report.logits.right_top[0]}
        said = " and ".join(
            f"{label[side]} {_code(best[side].token or str(best[side].id))}" for side in SIDES
        )
        yield f"\nNext token: {said}, KL {number(report.logits.kl)}.\n"


def _row(name: str, stages: Sequence[StageDiff]) -> str:
    gravity = ("skipped", "ok", "drift", "carried", "faulty")
    status = max((stage.status for stage in stages), key=gravity.index)
    largest = max((stage.rel for stage in stages if stage.rel is not None), default=None)
    worst = worst_against_noise(stages)
    ratio = times(worst.local.worst_ratio) if worst is not None and worst.local is not None else ""
    faulty = ", ".join(stage.op for stage in stages if stage.status == "faulty")
    mark = f"**{status}** ({faulty})" if faulty else status
    return f"| {name} | {mark} | {times(largest)} | {ratio} |\n"


def _data(text: str) -> str:
    """Text of a workflow command: a line break or a per cent sign would end or change it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _text(text: str) -> str:
    """Text in which Markdown and HTML see nothing of theirs: names come out of files that nobody has vouched for."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "\\`*_[]|#!" else c for c in text)


def _code(text: str) -> str:
    """Text in code marks, which no backtick in it may end."""
    return "`" + one_line(text).replace("`", "ˋ").replace("|", "¦") + "`"
