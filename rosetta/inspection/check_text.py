"""A check of one file as text for a terminal."""

from __future__ import annotations

from rosetta.errors import one_line
from rosetta.inspection.check import Check
from rosetta.report.table import table

MARKS = {"right": "RIGHT", "doubtful": "DOUBTFUL", "wrong": "WRONG", "unjudged": "UNJUDGED"}
PARTS = {
    "header": "headers and dims",
    "tokenizer": "tokenizer",
    "values": "values of every tensor",
    "forward": "a forward pass on some prompts",
    "llamacpp": "the same through llama.cpp",
}
SHOWN = 12  # findings of one part


def render(found: Check, width: int | None = None) -> str:
    """The check as text; control characters out of names are spelled out."""
    ran = {prompt.runtime for prompt in found.prompts}
    lines = [
        f"[ROSETTA] Checking {found.path} ({found.container}, {found.architecture or 'no architecture'})"
    ]
    for part, name in PARTS.items():
        here = [one for one in found.findings if one.part == part]
        judged = part in ("header", "tokenizer", "values") or (part == "forward" and "torch" in ran)
        if not (judged or here or "llamacpp" in ran):
            continue
        mark = "✗" if any(one.severity == "error" for one in here) else "~" if here else "✓"
        lines.append(f"  {name} {mark}")
        lines += [f"     {one.severity}: {one.message}" for one in here[:SHOWN]]
        lines += [f"     … and {len(here) - SHOWN} more"] if len(here) > SHOWN else []
    rows = [
        [
            run.runtime,
            repr(run.prompt),
            run.tokens,
            "-" if run.nll is None else f"{run.nll:.2f}",
            f"{run.uniform:.2f}",
        ]
        for run in found.prompts
    ]
    lines += table(["runtime", "prompt", "tokens", "nats a token", "guessing"], rows, width)
    lines += [f"  {run.runtime} goes on: {run.text!r}" for run in found.prompts if run.text is not None]
    lines += [f"  Note: {note}" for note in found.notes]
    lines.append(f"{MARKS[found.verdict]}: {found.reason}")
    return "".join(one_line(line) + "\n" for line in lines)
