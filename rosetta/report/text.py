"""The report as text for a terminal: every stage in its section, the causes inline, a summary at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rosetta.errors import one_line
from rosetta.report.causes import Cause, causes
from rosetta.report.stages import StageWriter
from rosetta.report.summary import summary_lines, verdict_line
from rosetta.report.words import SIDES, counted, heading, labels, largest_difference

if TYPE_CHECKING:
    from rich.text import Text

    from rosetta.compare.results import Side, StageDiff
    from rosetta.report.report import Report, SideFacts

DTYPES_SHOWN = 4
TOKENS_SHOWN = 24
STYLES = (
    (r"^=== .* ===$", "bold"),
    (r"✓", "green"),
    (r"✗ \w+!?", "bold red"),
    (r"~ drift|→ carried", "yellow"),
    (r"LAYOUT MISMATCH|^\s*DIAGNOSIS:|^FAILED:.*", "bold red"),
    (r"^MATCHED\b", "bold green"),
    (r"^DRIFT\b|^INCONCLUSIVE\b|^WARNING:|^LATENT:", "bold yellow"),
    (r"^Recommendation:", "bold cyan"),
    (r"^\[ROSETTA\]", "dim"),
)
"""What is coloured, and how; every colour only repeats what a word or symbol says."""


def render(report: Report, verbosity: int = 0) -> str:
    """The report as text.

    Args:
        report: what was found.
        verbosity: -1 the verdict line alone (`-q`), 0 the default, 1 every stage (`-v`), 2 values (`-vv`).

    Returns:
        Lines, each ended by a line break; control characters out of names and prompts are spelled out.
    """
    if verbosity < 0:
        return one_line(verdict_line(report)) + "\n"
    label = labels(report)
    found = causes(report.findings)
    lines = [*_header(report, label), *_sections(report, label, found, verbosity)]
    lines += ["", *summary_lines(report, label, found, verbosity)]
    return "".join(one_line(line) + "\n" for line in lines)


def coloured(text: str) -> Text:
    """Rendered text with the colours of a terminal."""
    from rich.text import Text  # costs start-up time, and only a terminal needs it

    lines = Text(text)
    for pattern, style in STYLES:
        lines.highlight_regex(f"(?m){pattern}", style)
    return lines


def _header(report: Report, label: dict[Side, str]) -> list[str]:
    lines = [f"[ROSETTA] Loading {label[side]}: {_facts(report, side)}" for side in SIDES]
    lines.append(
        f'[ROSETTA] Prompt: "{report.prompt}"'
        if report.prompt is not None
        else "[ROSETTA] Prompt: (token IDs)"
    )
    ids = {"left": report.tokens.left, "right": report.tokens.right}
    if report.tokens.match:
        lines.append(f"[ROSETTA] Token IDs: {_ids(ids['left'])}")
    else:
        lines += [f"[ROSETTA] Token IDs: {label[side]} {_ids(ids[side])}" for side in SIDES]
        lines.append(
            f"[ROSETTA] Token IDs differ from position {report.tokens.first_mismatch} on ✗ DIVERGENCE!"
        )
    return lines + [f"[ROSETTA] Note: {note}" for note in report.notes]


def _facts(report: Report, side: Side) -> str:
    facts: SideFacts = getattr(report, side)
    layers = next((getattr(key, side) for key in report.config if key.key == "block_count"), None)
    common = sorted(facts.dtypes.items(), key=lambda item: -item[1])
    parts = [facts.architecture]
    parts += [] if layers is None else [counted(int(layers), "layer")]
    parts += [f"{dtype} {count}" for dtype, count in common[:DTYPES_SHOWN]] + ["…"] * (
        len(common) > DTYPES_SHOWN
    )
    runtime = "" if facts.runtime == "torch" else f" by {facts.runtime}"
    return f"{facts.operand} ({', '.join(parts)}){runtime}"


def _ids(ids: list[int]) -> str:
    if len(ids) <= TOKENS_SHOWN:
        return str(ids)
    return f"[{', '.join(map(str, ids[:TOKENS_SHOWN]))}, …] ({len(ids)} tokens)"


def _sections(report: Report, label: dict[Side, str], found: list[Cause], verbosity: int) -> list[str]:
    writer = StageWriter(label, report.verdict, verbosity)
    at: dict[str, list[Cause]] = {}
    for cause in found:
        for name in cause.stages:
            at.setdefault(name, []).append(cause)
    lines = writer.causes(at.get("tokens", []), "tokens")
    sections: dict[str, list[StageDiff]] = {}
    for stage in report.stages:
        if stage.op != "tokens":
            sections.setdefault(heading(stage.layer, stage.op), []).append(stage)
    for title, stages in sections.items():
        lines += ["", f"=== {title} ==="]
        if stages[0].layer is None:
            lines += [line for stage in stages for line in writer.alone(stage, at.get(stage.name, []))]
        else:
            lines += _layer(writer, stages, at, verbosity)
        if stages[-1].op == "logits":
            lines += _next_token(report, label, verbosity)
    return lines


def _layer(
    writer: StageWriter, stages: list[StageDiff], at: dict[str, list[Cause]], verbosity: int
) -> list[str]:
    """The layer's stages that are to be seen: all with `-v`, else the worst, the bad, those with a cause."""
    compared = [stage for stage in stages if stage.status != "skipped"]
    skipped = [stage.op for stage in stages if stage.status == "skipped"]
    worst = largest_difference(compared)
    lines = []
    for stage in compared:
        found = at.get(stage.name, [])
        first = any(cause.stage == stage.name for cause in found)
        if verbosity > 0 or stage is worst or stage.status != "ok" or first:
            of_all = stage is worst and verbosity == 0 and stage.status == "ok"
            note = f" (largest of {counted(len(compared), 'stage')})" if of_all else ""
            lines += writer.in_layer(stage, found, note)
    return lines + ([f"  skipped: {', '.join(skipped)}"] if skipped else [])


def _next_token(report: Report, label: dict[Side, str], verbosity: int) -> list[str]:
    logits = report.logits
    if logits is None or not (logits.left_top and logits.right_top):
        return []
    tops = {"left": logits.left_top, "right": logits.right_top}
    best = ", ".join(f"{label[side]} {tops[side][0].id} {_piece(tops[side][0].token)}" for side in SIDES)
    same = {True: " ✓", False: " (another token)", None: ""}[logits.argmax_match]
    numbers = "" if logits.kl is None else f", KL={logits.kl:.2e}"
    lines = [f"  next token: {best}{numbers}{same}"]
    if verbosity > 1:
        for side in SIDES:
            five = ", ".join(f"{top.id} {_piece(top.token)} {top.logit:.4f}" for top in tops[side][:5])
            lines.append(f"  {label[side]} top 5: {five}")
    return lines


def _piece(token: str | None) -> str:
    return "" if token is None else repr(token)
