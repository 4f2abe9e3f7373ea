"""The report as JUnit XML: a test case for the tokens, each layer, each stage outside them, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree

from rosetta.errors import one_line
from rosetta.report.alerts import fails
from rosetta.report.causes import Cause, causes, diagnosis, explanation, proof
from rosetta.report.exit_code import FAILED, INCONCLUSIVE, exit_code
from rosetta.report.summary import verdict_line
from rosetta.report.words import counted, heading, labels, number, stage_place

if TYPE_CHECKING:
    from rosetta.compare.results import Side, StageDiff
    from rosetta.report.report import Report

OPTION = "Write the report as JUnit XML."

Outcome = Literal["passed", "failure", "error", "skipped"]


@dataclass(frozen=True)
class Case:
    """One test case.

    Args:
        name: what was tested.
        outcome: what came of it.
        message: why, in one line; empty where it passed.
        told: all there is to say.
    """

    name: str
    outcome: Outcome
    message: str = ""
    told: str = ""


def render(report: Report) -> str:
    """One report as JUnit XML."""
    return render_all({"rosetta": report})


def render_all(reports: Mapping[str, Report]) -> str:
    """Several reports, a test suite each."""
    top = ElementTree.Element("testsuites", name="rosetta")
    for name, report in reports.items():
        _suite(top, name, report)
    for what in ("tests", "failures", "errors"):  # Jenkins' schema has no `skipped` here
        top.set(what, str(sum(int(suite.get(what, "0")) for suite in top)))
    top.set("time", f"{sum(report.timing.total_s for report in reports.values()):.3f}")
    ElementTree.indent(top, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(top, encoding="unicode") + "\n"


def cases(report: Report) -> list[Case]:
    """The test cases of a report, in the order of the forward pass; the verdict last."""
    label, found = labels(report), causes(report.findings)
    at: dict[str, list[Cause]] = {}
    for cause in found:
        for name in cause.stages if not cause.first.latent else ():
            at.setdefault(name, []).append(cause)
    told = [] if report.verdict == "error" else [_tokens(report, label, at.get("tokens", []))]
    stages = [stage for stage in report.stages if stage.op != "tokens"]
    for name, group in groupby(stages, lambda stage: heading(stage.layer, stage.op)):
        told.append(_stages(report, name, list(group), at, label))
    latent = [cause for cause in found if cause.first.latent]
    if latent:
        said = "\n\n".join(_diagnosed(cause, label) for cause in latent)
        message = f"{counted(sum(len(c.findings) for c in latent), 'latent finding')}"
        forbidden = fails(report, "latent")
        told.append(Case("Latent", "failure" if forbidden else "passed", message if forbidden else "", said))
    return [*told, _verdict(report)]


def _suite(top: ElementTree.Element, name: str, report: Report) -> None:
    told = cases(report)
    count = {what: sum(case.outcome == what for case in told) for what in ("failure", "error", "skipped")}
    pair = f"{report.left.operand} and {report.right.operand}"
    suite = ElementTree.SubElement(
        top,
        "testsuite",
        name=one_line(pair),
        tests=str(len(told)),
        failures=str(count["failure"]),
        errors=str(count["error"]),
        skipped=str(count["skipped"]),
        time=f"{report.timing.total_s:.3f}",
    )
    if report.run is not None:
        suite.set("timestamp", report.run.started.partition("+")[0].partition(".")[0])
        suite.set("hostname", one_line(report.run.host.name))
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(report):
        ElementTree.SubElement(properties, "property", name=key, value=one_line(value))
    for case in told:
        element = ElementTree.SubElement(
            suite, "testcase", name=case.name, classname=f"{name}.{case.name.split()[0].lower()}", time="0"
        )
        if case.outcome != "passed":
            verdict = ElementTree.SubElement(element, case.outcome, message=case.message)
            if case.outcome != "skipped":
                verdict.set("type", report.verdict)
                verdict.text = case.told
        elif case.told:
            ElementTree.SubElement(element, "system-out").text = case.told


def _properties(report: Report) -> Iterator[tuple[str, str]]:
    yield "verdict", report.verdict
    yield "prompt", report.prompt if report.prompt is not None else str(report.tokens.left)
    yield "threshold", f"{report.threshold:g}"
    yield "reference", report.reference
    if report.run is not None:
        yield "run", report.run.id
    if report.run is not None and report.run.git is not None:
        yield "commit", report.run.git.commit


def _tokens(report: Report, label: Mapping[Side, str], found: list[Cause]) -> Case:
    told = "\n\n".join(_diagnosed(cause, dict(label)) for cause in found)
    if report.tokens.match:
        return Case("Tokens", "passed", told=told)
    message = f"the token IDs differ at position {report.tokens.first_mismatch}"
    sides = "\n".join(f"{label[side]}: {getattr(report.tokens, side)}" for side in ("left", "right"))
    return Case("Tokens", "failure", message, f"{sides}\n\n{told}".strip())


def _stages(
    report: Report, name: str, stages: list[StageDiff], at: Mapping[str, list[Cause]], label: dict[Side, str]
) -> Case:
    """A layer, or a stage outside the layers. What is wrong only because of an earlier fault was not tested."""
    rows = "\n".join(_row(stage) for stage in stages)
    here = {id(cause): cause for stage in stages for cause in at.get(stage.name, [])}
    told = "\n\n".join([*(_diagnosed(cause, label) for cause in here.values()), rows])
    faulty = [stage.op for stage in stages if stage.status == "faulty"]
    if report.verdict == "divergent" and (faulty or here):
        causes_said = [f"{one_line(diagnosis(cause, label))}" for cause in here.values()]
        where = f"{', '.join(faulty)} diverge{'s' if len(faulty) == 1 else ''}" if faulty else "diverges"
        return Case(name, "failure", "; ".join(causes_said) or where, told)
    drifted = [stage.op for stage in stages if stage.status == "drift"]
    if drifted and report.verdict == "drift" and fails(report, "drift"):
        return Case(name, "failure", f"{', '.join(drifted)} over the threshold {report.threshold:g}", told)
    if any(stage.status == "carried" for stage in stages) and report.first_divergence is not None:
        return Case(name, "skipped", f"carries the fault of {stage_place(report.first_divergence.name)}")
    if all(stage.status == "skipped" for stage in stages):
        return Case(name, "skipped", "there is no such stage")
    return Case(name, "passed", told=told)


def _verdict(report: Report) -> Case:
    """All of it in one case, so that no report that fails a job is green."""
    line = one_line(verdict_line(report))
    told = "\n".join(
        [line, *(f"Recommendation: {one_line(finding.recommendation)}" for finding in report.findings)]
    )
    if report.verdict == "error":
        return Case("Verdict", "error", one_line(report.reason), told)
    code = exit_code(report, assert_match=True, fail_on=report.assertion.fail_on or ("divergent",))
    if code == INCONCLUSIVE:
        return Case("Verdict", "error", line, told)
    return Case("Verdict", "failure" if code == FAILED else "passed", line if code == FAILED else "", told)


def _row(stage: StageDiff) -> str:
    noise = "" if stage.local is None else f"  local/noise {stage.local.worst_ratio:.3g}"
    return f"{stage.op:<16} {stage.status:<8} max_diff={number(stage.max_diff)}{noise}"


def _diagnosed(cause: Cause, label: dict[Side, str]) -> str:
    """A cause with its proof and advice, a line each."""
    proven, more = proof(cause), explanation(cause)
    lines = [f"{cause.first.kind}: {diagnosis(cause, label)}"]
    lines += [] if proven is None else [f"proof: {proven}"]
    lines += [] if more is None else [more]
    lines.append(f"Recommendation: {cause.said_of_all(cause.first.recommendation)}")
    return "\n".join(one_line(line) for line in lines)
