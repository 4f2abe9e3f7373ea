"""A parity run as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rosetta.errors import one_line
from rosetta.parity.outputs import cached_wrong
from rosetta.parity.results import Candidate, Cell, Output, Parity
from rosetta.parity.sides import OURS
from rosetta.report.table import table
from rosetta.report.words import counted

WORDS = {
    "match": "MATCHED",
    "near_tie": "NEAR TIE",
    "fault": "FAILED",
    "inconclusive": "INCONCLUSIVE",
    "error": "ERROR",
}
CLASSES = {"match": "✓ match", "near_tie": "~ near tie", "fault": "✗ fault"}
MARKS = {
    "empty": "empty",
    "repeats": "repeats itself",
    "stops_early": "stops early",
    "nonfinite": "ends in NaN or Inf",
}
LONGEST = 90  # characters of what was said


def render(found: Parity, width: int | None = None, *, quiet: bool = False) -> str:
    """The run as text; control characters out of texts are spelled out."""
    verdict = f"{WORDS[found.verdict]}: {found.reason}"
    if quiet:
        return one_line(verdict) + "\n"
    lines = list(_heading(found))
    for prompt in found.prompts:
        lines += ["", f"=== {prompt.id}: {_quoted(prompt.text) if prompt.text is not None else 'ids'} ==="]
        outputs = [output for output in found.outputs if output.prompt == prompt.id]
        lines += _outputs(outputs)
        if prompt.expected_text is not None:
            lines.append(f"  expected: {_quoted(prompt.expected_text)}")
        elif prompt.expected_ids is not None:
            lines.append(f"  expected: {prompt.expected_ids}")
        lines += [line for cell in found.cells if cell.prompt == prompt.id for line in _parting(cell)]
    lines += ["", "=== Summary ===", *_matrix(found, width), *_findings(found)]
    lines += [f"  Note: {note}" for note in found.notes]
    lines.append(verdict)
    return "".join(one_line(line) + "\n" for line in lines)


def _heading(found: Parity) -> Iterator[str]:
    how = ", each as a question to an assistant" if found.chat else ""
    prompts, tokens = counted(len(found.prompts), "prompt"), counted(found.generate, "token")
    yield f"[ROSETTA] Parity: {prompts}{how}, {tokens} each, greedily"
    for side in found.sides:
        options = ", ".join(f"{name} {value}" for name, value in side.options.items())
        version = "" if side.runtime == OURS else f" {side.version}"
        yield f"[ROSETTA] {side.operand}: run by {side.runtime}{version} ({options})"


def _outputs(outputs: list[Output]) -> Iterator[str]:
    """What each side said; sides that were given and said the same share a line."""
    asked = {output.rendered: output for output in outputs}
    if len(asked) > 1:
        for output in asked.values():
            yield f"  {output.side} is asked {_quoted(output.rendered or '')}"
    groups: dict[tuple[object, ...], list[Output]] = {}
    for output in outputs:
        groups.setdefault((tuple(output.ids), output.text, output.ended, tuple(output.marks)), []).append(
            output
        )
    for group in groups.values():
        one = group[0]
        said = "nothing: the runtime failed" if one.ended == "failed" else _said(one)
        marks = "".join(f" ({MARKS[mark]})" for mark in one.marks)
        yield f"  {'all' if len(group) == len(outputs) > 1 else ', '.join(o.side for o in group)}: {said}{marks}"
    for output in outputs:
        if cached_wrong(output):
            yield (
                f"  {output.side}: token by token its logits are {output.cached_error:.2e} from those of all tokens "
                f"at once, where {output.cached_limit:.2e} is explained ✗"
            )


def _said(output: Output) -> str:
    return str(output.ids) if output.text is None else _quoted(output.text)


def _parting(cell: Cell) -> Iterator[str]:
    """Where a cell parts, in a line."""
    if cell.class_ == "match":
        return
    margin = "" if cell.margin is None else f"; margin {cell.margin:.3g}"
    error = "" if cell.error is None else f"; other logits differ by {cell.error:.3g}"
    stage = "" if cell.stage is None else f"; first at fault: {cell.stage}"
    at = "no tokens in common"
    if cell.first_mismatch is not None:
        at = (
            f"token {cell.first_mismatch} is {_candidate(cell.left_candidate)}, in {cell.reference} "
            f"{_candidate(cell.right_candidate)}"
        )
    if cell.stage == "tokens":
        at = f"not asked the same as {cell.reference}"
    yield f"  {cell.side}: {at}{margin}{error}{stage}: {CLASSES[cell.class_]}"


def _candidate(candidate: Candidate | None) -> str:
    if candidate is None:
        return "none"
    return f"{candidate.id}" + ("" if candidate.token is None else f" {_quoted(candidate.token)}")


def _matrix(found: Parity, width: int | None) -> list[str]:
    """Prompts × pairs of sides."""
    pairs = list(dict.fromkeys((cell.side, cell.reference) for cell in found.cells))
    if not pairs:
        rows = [
            [out.prompt, out.side, _number(out.cached_error), _number(out.cached_limit)]
            for out in found.outputs
        ]
        return table(["prompt", "side", "cached against whole", "explained"], rows, width)
    rows = []
    for cell in found.cells:
        rows.append(
            [
                cell.prompt,
                cell.side,
                cell.reference,
                CLASSES[cell.class_],
                "-" if cell.first_mismatch is None else str(cell.first_mismatch),
                _number(cell.margin),
                _number(cell.error),
            ]
        )
    headings = ["prompt", "side", "held to", "class", "parts at", "margin", "error"]
    return table(headings, rows, width)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"


def _findings(found: Parity) -> Iterator[str]:
    """Each cause once, with the prompts where it showed."""
    shown: dict[tuple[str, str, str | None, str], list[str]] = {}
    for cause in found.findings:
        key = (cause.kind, cause.side, cause.stage, cause.message)
        shown.setdefault(key, []).append(cause.prompt or "all")
    for cause in found.findings:
        prompts = shown.pop((cause.kind, cause.side, cause.stage, cause.message), None)
        if prompts is None:
            continue
        at = "" if cause.stage is None else f" at {cause.stage}"
        yield f"  DIAGNOSIS: {cause.side}: {cause.kind}{at} ({cause.status}; {', '.join(prompts)}): {cause.message}"
        yield f"     Recommendation: {cause.recommendation}"
        if cause.printed:
            yield from (f"     | {line}" for line in cause.printed.strip().splitlines()[-3:])


def _quoted(text: str) -> str:
    """A text on one line, cut where it is long."""
    shown = repr(text)[1:-1] if "\\" in repr(text) else text
    return f'"{shown[:LONGEST]}"' + ("…" if len(shown) > LONGEST else "")
