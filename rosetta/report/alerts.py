"""What CI is told of a report: an alert a finding, with a level, a file to point at and an identity that lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rosetta.errors import one_line
from rosetta.report.causes import Cause, causes, diagnosis, proof, subject
from rosetta.report.words import labels, stage_place
from rosetta.sarif import identity

if TYPE_CHECKING:
    from rosetta.compare.results import Finding, Side
    from rosetta.report.report import Report

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""Gravest first."""


@dataclass(frozen=True)
class Rule:
    """What an alert is an instance of, in words: a kind of finding, or a verdict that no finding stands for."""

    id: str
    title: str
    means: str
    why: str
    repair: str


VERDICTS = {
    "drift": Rule(
        "verdict.drift",
        "Drift that was forbidden",
        "Differences are over the threshold, and the declared dtypes explain them.",
        "A quantised file cannot equal its source; an explicit threshold or --fail-on drift forbids it here.",
        "Raise the threshold, keep more bits, or let drift pass.",
    ),
    "inconclusive": Rule(
        "verdict.inconclusive",
        "Nothing could be judged",
        "Nothing comparable was compared, which is never a pass.",
        "The two sides share no stage, or neither side's weights could be used.",
        "Compare two files that hold the same model, with a prompt that both can run.",
    ),
    "error": Rule(
        "verdict.error",
        "There was no comparison",
        "An operand is missing, damaged or unsupported, or the command line asks for what cannot be done.",
        "A file was not built, not copied whole, or the command names another one.",
        "The message says which file, what is wrong and where.",
    ),
}


@dataclass(frozen=True)
class Alert:
    """One thing that CI should show.

    Args:
        rule: id of its rule, such as `layout.transposed`.
        level: how grave it is.
        message: what is wrong and what proves it, in plain text.
        advice: what to do about it.
        file: the model file, or the config that made it; empty where no file is known.
        subject: the tensor, key or stage concerned.
        facts: of the finding, for a format that has room for them.
    """

    rule: str
    level: Level
    message: str
    advice: str
    file: str
    subject: str
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """The same for the same fault in every run: of what it is and where, never of the figures."""
        return identity(self.rule, self.file, self.subject)


def alerts(report: Report, *, folded: bool = False) -> list[Alert]:
    """The alerts of a report, gravest first.

    Args:
        report: what was found.
        folded: whether findings that differ only in the layer are one alert.
    """
    found = causes(report.findings) if folded else [Cause((finding,)) for finding in report.findings]
    told = [_of_cause(report, cause) for cause in found]
    if report.verdict == "divergent" and not any(alert.level == "error" for alert in told):
        told.append(_of_divergence(report))
    told += _of_verdict(report)
    return sorted(told, key=lambda alert: LEVELS.index(alert.level))


def rule_named(name: str) -> Rule:
    """What a rule means, in words; of one that a later version wrote no more than its name is known."""
    from rosetta.diagnose.kinds import all_kinds  # reads every hypothesis: not at the program's start

    for rule in VERDICTS.values():
        if rule.id == name:
            return rule
    kind = all_kinds().get(name)
    if kind is None:
        return Rule(name, name, name, "", "")
    return Rule(kind.id, kind.headline.capitalize(), kind.means, kind.why, kind.repair)


def fails(report: Report, what: str) -> bool:
    """Whether drift, or a latent finding, was to fail this report."""
    return what in report.assertion.fail_on


def pointed_at(report: Report, side: Side) -> str:
    """The file of a side that a reader can open: the config of a folder, else the model file itself."""
    facts = getattr(report, side)
    path = str(facts.path).replace("\\", "/")
    return f"{path.rstrip('/')}/config.json" if facts.container == "huggingface" else path


def _of_cause(report: Report, cause: Cause) -> Alert:
    finding = cause.first
    proven = proof(cause)
    said = one_line(diagnosis(cause, labels(report))) + (f". Proof: {one_line(proven)}" if proven else "")
    return Alert(
        rule=finding.kind,
        level=_level(report, finding),
        message=said + (". It makes nothing divergent on this prompt." if finding.latent else "."),
        advice=_sentence(one_line(cause.said_of_all(finding.recommendation))),
        file=pointed_at(report, finding.side),
        subject=one_line(subject(cause) or cause.stage or ""),
        facts={
            "status": finding.status,
            "latent": finding.latent,
            "side": finding.side,
            "stage": cause.stage,
            "evidence": finding.evidence.model_dump(mode="json") if finding.evidence else None,
        },
    )


def _sentence(text: str) -> str:
    """A clause as a sentence of its own: it follows another one here."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _level(report: Report, finding: Finding) -> Level:
    if finding.latent:
        return "error" if fails(report, "latent") else "note"
    return "error" if report.verdict == "divergent" else "warning"


def _of_divergence(report: Report) -> Alert:
    """Of a divergence whose cause was not looked for, or is only latent by itself."""
    first = report.first_divergence
    where = stage_place(first.name) if first else "unknown"
    side: Side = "left" if report.reference == "right" else "right"
    return Alert(
        rule="unexplained",
        level="error",
        message=f"The two models first diverge at {where}: {one_line(report.reason)}.",
        advice="Compare without --no-diagnose to find the cause, or look at the stage with -vv.",
        file=pointed_at(report, side),
        subject=first.name if first else "",
    )


def _of_verdict(report: Report) -> Iterator[Alert]:
    """Of a verdict that fails a job though no finding says why."""
    rule = VERDICTS.get(report.verdict)
    if rule is None or (report.verdict == "drift" and not fails(report, "drift")):
        return
    yield Alert(
        rule=rule.id,
        level="error",
        message=f"{rule.title}: {one_line(report.reason)}.",
        advice=rule.repair,
        file=pointed_at(report, "left"),
        subject=report.verdict,
    )
