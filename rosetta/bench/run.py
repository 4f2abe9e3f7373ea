"""Runs one case: builds the two files, compares them, and holds the report to what was planted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fixtures.faults import fault_from_text
from fixtures.pairs import place
from rosetta.bench.case import Case, Cause, Shown
from rosetta.bench.peers import RULES, STAGE_RULES, alarms
from rosetta.compare.options import DEFAULT_PROMPT, Options
from rosetta.compare.results import Finding, Side
from rosetta.diagnose import compare_operands
from rosetta.diagnose.comparison import Comparison
from rosetta.errors import RosettaError
from rosetta.model import open_model
from rosetta.report.build import build_report
from rosetta.report.report import Report
from rosetta.runtimes.torch import run_facts, run_stages
from rosetta.runtimes.trace import write_trace


@dataclass(frozen=True)
class Score:
    """What was found of one case.

    Args:
        detected: it was noticed: `divergent` where the fault shows, else a finding about what was planted.
        located: the first faulty stage is the one that reads what was planted.
        named: every cause has a finding of its kind, side and tensor or key.
        confirmed: each of these is proven.
        accused: findings about anything that was not planted.
        seconds: of the comparison.
        peers: rule -> (raised an alarm, at the right stage).
        got: verdict, first stage and findings, in words.
    """

    case: Case
    detected: bool
    located: bool
    named: bool
    confirmed: bool
    accused: tuple[str, ...]
    seconds: float
    peers: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    got: str = ""

    @property
    def perfect(self) -> bool:
        """Everything right and nothing else said."""
        if self.case.shown is Shown.noise or not self.case.plants:
            return not self.accused
        proven = self.confirmed or self.case.shown is Shown.latent  # what does not move cannot be moved back
        return self.detected and self.located and self.named and proven and not self.accused


def run_case(case: Case) -> Score:
    """Build, compare, score."""
    with tempfile.TemporaryDirectory(prefix="rosetta-bench-") as folder:
        operands = write_pair(case, Path(folder))
        try:
            comparison = compare_operands(operands["left"], operands["right"], options_of(case))
        except RosettaError as error:
            return Score(case, False, False, False, False, (), 0.0, got=f"refused: {error.message}")
        except Exception as error:  # a crash is a miss like any other, and the cases after it still count
            return Score(
                case, False, False, False, False, (), 0.0, got=f"crashed: {type(error).__name__}: {error}"
            )
        return scored(case, build_report(comparison), _peers(case, comparison))


def write_pair(case: Case, folder: Path) -> dict[Side, str]:
    """The two operands of a case."""
    subject = case.subject
    other: Side = "right" if subject.side == "left" else "left"
    faults = [fault_from_text(text) for text in case.faults]
    damaged = subject.file
    for fault in faults:
        damaged = fault(damaged)
    faulty, whole = place(folder, damaged, subject.side), place(folder, subject.other, other)
    return {subject.side: str(faulty), other: _recorded(case, whole) if subject.recorded else str(whole)}


def _recorded(case: Case, whole: Path) -> str:
    """The operand of a run of the whole side."""
    model, ids, target = open_model(str(whole)), case.subject.ids, whole.with_suffix(".safetensors")
    write_trace(target, run_stages(model, ids), run_facts(model, str(whole), None, ids, "float32"))
    return f"trace:{target}"


def options_of(case: Case) -> Options:
    """How a case is compared: the whole side is believed, unless the case says otherwise."""
    subject = case.subject
    whole: Side = "right" if subject.side == "left" else "left"
    return Options(
        prompt=subject.prompt or DEFAULT_PROMPT,
        tokens=None if subject.prompt else subject.ids,
        reference=subject.side if subject.misplaced else whole,
    )


def scored(case: Case, report: Report, peers: Mapping[str, tuple[bool, bool]]) -> Score:
    """A report held to what was planted."""
    matches = [[f for f in report.findings if says(f, cause, case)] for cause in case.causes]
    first = next((stage.name for stage in report.stages if stage.status == "faulty"), None)
    about = [f for f in report.findings if not _is_false(f, case)]
    divergent = report.verdict == "divergent"
    detected = divergent if case.shown is Shown.yes and case.plants else bool(about)
    if case.shown is Shown.latent:
        detected = detected and not divergent
    located = first == case.stage if case.shown is not Shown.latent else detected
    return Score(
        case=case,
        detected=detected,
        located=located,
        named=all(matches),
        confirmed=all(any(f.status == "confirmed" for f in found) for found in matches),
        accused=tuple(_in_words(f) for f in report.findings if _is_false(f, case)),
        seconds=report.timing.total_s,
        peers=peers,
        got=f"{report.verdict} at {first}; " + ("; ".join(map(_in_words, report.findings)) or "no finding"),
    )


def says(finding: Finding, cause: Cause, case: Case) -> bool:
    """Whether a finding is the one that a cause asks for."""
    if finding.side != case.subject.side or not set(cause.kinds) & {finding.kind, *finding.alternatives}:
        return False
    if not cause.subjects or {finding.tensor, finding.key} & set(cause.subjects):
        return True
    return finding.tensor in cause.partners


def _is_false(finding: Finding, case: Case) -> bool:
    """Whether a finding accuses what was not planted."""
    allowed = {name for plant in case.plants for name in plant.touches | plant.tolerated}
    stages = {plant.stage for plant in case.plants}
    if not case.plants or finding.side != case.subject.side:
        return True
    if finding.kind.startswith("tokenizer."):
        return "tokenizer" not in allowed
    accused = {name for name in (finding.tensor, finding.key) if name}
    if not accused:
        return finding.evidence is None or finding.evidence.stage not in stages
    return not accused & allowed


def _in_words(finding: Finding) -> str:
    what = finding.tensor or finding.key or (finding.evidence.stage if finding.evidence else "")
    partner = f" with {finding.partner}" if finding.partner else ""
    return (
        f"{finding.kind} {what}{partner} {finding.side} {finding.status}{' latent' if finding.latent else ''}"
    )


def _peers(case: Case, comparison: Comparison) -> dict[str, tuple[bool, bool]]:
    side = case.subject.side
    other: Side = "right" if side == "left" else "left"
    ids: dict[Side, list[int]] = {"left": comparison.tokens.left, "right": comparison.tokens.right}
    if case.subject.recorded:
        return {}
    found = alarms(comparison.models[side], comparison.models[other], ids[side], ids[other])
    wanted = "embedding" if case.stage == "tokens" else case.stage  # the first thing that a capture has
    return {
        rule: (rule in found, rule in found and rule in STAGE_RULES and found[rule] == wanted)
        for rule in RULES
    }
