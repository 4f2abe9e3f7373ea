"""The report as text for a terminal: where and why it fails in its place, layers that are well folded, a summary."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from rosetta.errors import one_line
from rosetta.report.causes import Cause, causes
from rosetta.report.layers import layer_lines
from rosetta.report.stages import COLUMNS, StageWriter
from rosetta.report.summary import summary_lines, verdict_line
from rosetta.report.view import View
from rosetta.report.words import SIDES, counted, heading, labels

if TYPE_CHECKING:
    from rich.text import Text

    from rosetta.compare.results import Side, StageDiff
    from rosetta.report.report import Report, SideFacts

DTYPES_SHOWN = 4
TOKENS_SHOWN = 24
STYLES = (
    (r"(?m)^=== .* ===$", "bold"),
    (r"✓", "green"),
    (r"✗ \w+!?", "bold red"),
    (r"~ drift|→ carried", "yellow"),
    (r"(?m)LAYOUT MISMATCH|^\s*DIAGNOSIS:|^FAILED:.*", "bold red"),
    (r"(?m)^MATCHED\b", "bold green"),
    (r"(?m)^DRIFT\b|^INCONCLUSIVE\b|^WARNING:", "bold yellow"),
    (r"(?m)^Recommendation:", "bold cyan"),
    (r"(?m)^\[ROSETTA\]", "dim"),
    (r"(?s)^LATENT:.*\Z|(?<=\n)LATENT:.*\Z", "dim"),
)
"""What is coloured, and how; every colour only repeats what a word or symbol says. Latent findings come last."""


def render(report: Report, view: View | None = None) -> str:
    """The report as text.

    Args:
        report: what was found.
        view: how it is looked at; by default without `-v`, with tables of any width.

    Returns:
        Lines, each ended by a line break; control characters out of names and prompts are spelled out.
    """
    view = view or View()
    if view.verbosity < 0:
        lines = [verdict_line(report)]
    else:
        label = labels(report)
        found = causes(report.findings)
        lines = [*_header(report, label), *_sections(report, label, found, view)]
        lines += ["", *summary_lines(report, label, found, view)]
    return "".join(one_line(line) + "\n" for line in lines)


def coloured(text: str) -> Text:
    """Rendered text with the colours of a terminal."""
    from rich.text import Text  # costs start-up time, and only a terminal needs it

    lines = Text(text)
    for pattern, style in STYLES:
        lines.highlight_regex(pattern, style)
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


def _sections(report: Report, label: dict[Side, str], found: list[Cause], view: View) -> list[str]:
    writer = StageWriter(label, report.verdict, view.verbosity, bool(report.findings))
    at: dict[str, list[Cause]] = {}
    for cause in found:
        for name in cause.stages if not cause.first.latent else ():  # latent ones come last, all together
            at.setdefault(name, []).append(cause)
    lines = writer.causes(at.get("tokens", []), "tokens")
    stages = [stage for stage in report.stages if stage.op != "tokens"]
    if view.verbosity > 0:
        return lines + list(_every_stage(writer, stages, at, view))
    for in_layers, group in groupby(stages, lambda stage: stage.layer is not None):
        some = list(group)
        if in_layers:
            lines += layer_lines(writer, some, at)
        else:
            lines += [line for stage in some for line in _alone(writer, stage, at)]
    return lines


def _alone(writer: StageWriter, stage: StageDiff, at: dict[str, list[Cause]]) -> list[str]:
    """The section of a stage outside the layers."""
    return ["", f"=== {heading(None, stage.op)} ===", *writer.alone(stage, at.get(stage.name, []))]


def _every_stage(
    writer: StageWriter, stages: list[StageDiff], at: dict[str, list[Cause]], view: View
) -> Iterator[str]:
    """All stages that are to be seen, in columns; what is faulty, or where a cause is found, in full."""
    shown = view.chosen(stages)
    for title, group in groupby(shown, lambda stage: heading(stage.layer, stage.op)):
        yield from ("", f"=== {title} ===", COLUMNS)
        for stage in group:
            found = at.get(stage.name, [])
            yield from (
                writer.in_layer(stage, found) if found or stage.status == "faulty" else writer.row(stage)
            )
    if view.chooses and not shown:
        yield from ("", "  No stage is what --layers and --stage ask for.")
