"""Faults, rules and tokenizers in words, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rosetta.errors import one_line
from rosetta.lint.report import LintReport
from rosetta.lint.rule import Rule
from rosetta.lint.rules import FAMILIES, all_rules

WIDTH = 100  # characters of a line of an explanation


def render(report: LintReport) -> str:
    """A line for each fault, then one that counts them."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: LintReport) -> Iterator[str]:
    for path, health in report.health:
        yield from (one_line(line) for line in health.lines(str(path)))
    yield from (found.line() for found in report.found)
    files = _counted(len(report.paths), "model")
    if not report.found:
        yield f"No fault in {files}{'' if report.values else ' (headers; --values reads the tensors too)'}."
        return
    errors = sum(found.rule.severity == "error" for found in report.found)
    kinds = [
        _counted(count, noun)
        for count, noun in ((errors, "error"), (len(report.found) - errors, "warning"))
        if count
    ]
    first = report.found[0].rule
    yield f"Found {' and '.join(kinds)} in {files}. rosetta explain {first.id} says what {first.name} means."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + "s" * (count != 1)


def listed() -> str:
    """Every rule in a line, under its family."""
    rules = [loaded.rule for loaded in all_rules()]
    wide = max(len(rule.name) for rule in rules)
    lines, before = [], ""
    for rule in rules:
        family = FAMILIES[rule.id[0]]
        if family != before:
            lines.append(f"\n{family}:" if before else f"{family}:")
        before = family
        lines.append(f"  {rule.id}  {rule.name:{wide}}  {rule.severity:7}  {rule.what}")
    return "".join(f"{line}\n" for line in lines)


def rule_named(name: str) -> Rule | None:
    """The rule of an id or a name; None where there is none."""
    return next((one.rule for one in all_rules() if name in (one.rule.id, one.rule.name)), None)


def explained(rule: Rule) -> str:
    """All that is to be said of a rule."""
    parts = [f"# {rule.id} {rule.name} ({rule.severity}, {FAMILIES[rule.id[0]]})\n"]
    said = {"What is wrong": rule.what, "Why it happens": rule.why, "How it is mended": rule.fix}
    if rule.reads_values or rule.id[0] == "V":
        said["When it is looked for"] = "Only with rosetta lint --values, as it reads all of the file."
    for heading, text in said.items():
        filled = textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)
        parts.append(f"## {heading}\n{filled}\n")
    return "\n".join(parts)
