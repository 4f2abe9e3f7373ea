"""Several sides, several prompts: each says its own, and each two are judged where they part."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence

from rosetta import __version__
from rosetta.compare.listener import Listener
from rosetta.compare.options import live
from rosetta.errors import UsageError
from rosetta.parity.judging import judged, judged_by_oracle
from rosetta.parity.options import ParityOptions
from rosetta.parity.outputs import cache_causes, cached_wrong, marks, output_of
from rosetta.parity.prompts import Prompt
from rosetta.parity.results import Cause, Cell, Output, Parity, ParityPrompt, ParitySide, Summary, Verdict
from rosetta.parity.said import Said, all_said, failures
from rosetta.parity.sides import Side, open_sides
from rosetta.parity.templates import template_causes
from rosetta.report.exit_code import USAGE
from rosetta.report.fingerprint import header_sha256
from rosetta.report.report import Assertion, Tool
from rosetta.runtimes.live import refuse_unknown
from rosetta.runtimes.observed.capture import Facts


def parity(
    operands: Sequence[str],
    prompts: Sequence[Prompt],
    options: ParityOptions,
    listener: Listener | None = None,
) -> Parity:
    """Let all sides go on with all prompts, and judge where they part.

    Args:
        operands: the first is held to each other; one alone is held to itself, cached against whole.
        prompts: see `prompts.py`.
        options: see `options.py`.
        listener: hears how far the work is.

    Raises:
        RosettaError: an operand is missing, damaged or unsupported, or the options ask for the impossible.
    """
    started, listener = time.perf_counter(), listener or Listener()
    _refuse(operands, options)
    sides = open_sides(list(operands), options.runtime_options)
    try:
        said = [all_said(side, prompts, options, listener) for side in sides]
        outputs = [output_of(one, options) for column in said for one in column]
        cells, causes = _cells(said, options, listener)
        causes = [
            *(template_causes(sides, prompts, options.believes_left) if options.chat else ()),
            *failures(said),
            *cache_causes(outputs),
            *causes,
        ]
        return _report(sides, said, prompts, outputs, cells, causes, options, time.perf_counter() - started)
    finally:
        for side in sides:
            side.container.close()


def refused(message: str, options: ParityOptions) -> Parity:
    """A report that says why there is none.

    Args:
        message: what the program says, in one sentence.
        options: that were asked for.
    """
    return Parity(
        tool=Tool(version=__version__),
        verdict="error",
        reason=message,
        generate=options.generate,
        chat=options.chat,
        sides=[],
        prompts=[],
        outputs=[],
        cells=[],
        findings=[],
        summary=Summary(),
        notes=[],
        total_s=0.0,
        assertion=Assertion(exit_code=USAGE),
        error=message,
    )


def _refuse(operands: Sequence[str], options: ParityOptions) -> None:
    if len(set(operands)) < len(operands):
        raise UsageError("an operand is named twice", remedy="name each once")
    runs = [run for operand in operands if (run := live(operand)) is not None]
    refuse_unknown([runtime for runtime, _ in runs], options.runtime_options)


def _cells(
    said: Sequence[Sequence[Said]], options: ParityOptions, listener: Listener
) -> tuple[list[Cell], list[Cause]]:
    """All cells, by prompt, and the causes of those at fault."""
    cells: list[Cell] = []
    causes: list[Cause] = []
    first, *others = said
    for row, left in enumerate(first):
        for column in others:
            subject, believed = (column[row], left) if options.believes_left else (left, column[row])
            listener.working(f"judging {left.prompt.id}", row, len(first))
            cell, found = judged(subject, believed, options, marks(subject))
            cells.append(cell)
            causes += found
    for column in said:
        for one in column:
            if one.prompt.has_oracle and one.speech is not None:
                error = max(
                    (c.error for c in cells if c.prompt == one.prompt.id and c.error is not None),
                    default=None,
                )
                cells.append(judged_by_oracle(one, marks(one), error))
    return cells, causes


def _report(
    sides: Sequence[Side],
    said: Sequence[Sequence[Said]],
    prompts: Sequence[Prompt],
    outputs: list[Output],
    cells: list[Cell],
    causes: list[Cause],
    options: ParityOptions,
    seconds: float,
) -> Parity:
    counts = Counter(cell.class_ for cell in cells)
    summary = Summary(match=counts["match"], near_tie=counts["near_tie"], fault=counts["fault"])
    verdict, reason = _verdict(cells, outputs, causes)
    return Parity(
        tool=Tool(version=__version__),
        verdict=verdict,
        reason=reason,
        generate=options.generate,
        chat=options.chat,
        sides=[_facts(side, column[0].facts) for side, column in zip(sides, said, strict=True)],
        prompts=[
            ParityPrompt(
                id=prompt.id,
                text=prompt.text,
                expected_text=prompt.expected_text,
                expected_ids=None if prompt.expected_ids is None else list(prompt.expected_ids),
            )
            for prompt in prompts
        ],
        outputs=outputs,
        cells=cells,
        findings=causes,
        summary=summary,
        notes=[
            f"{side.operand} has no tokenizer, and uses that of {side.lent}"
            for side in sides
            if side.lent is not None
        ],
        total_s=seconds,
    )


def _verdict(
    cells: Sequence[Cell], outputs: Sequence[Output], causes: Sequence[Cause]
) -> tuple[Verdict, str]:
    """The verdict and its sentence."""
    wrong = [cell for cell in cells if cell.class_ == "fault"]
    crashed = [cause for cause in causes if cause.kind == "runtime.crash"]
    cached = [output for output in outputs if cached_wrong(output)]
    if crashed:
        return "fault", f"{crashed[0].side}: {crashed[0].message}"
    if wrong:
        at = f", first at {wrong[0].stage}" if wrong[0].stage else ""
        return "fault", f"{len(wrong)} of {len(cells)} cells at fault: {wrong[0].prompt}{at}"
    if cached:
        return "fault", f"{cached[0].side} says otherwise token by token than all at once: {cached[0].prompt}"
    near = sum(cell.class_ == "near_tie" for cell in cells)
    if near:
        return (
            "near_tie",
            f"{len(cells) - near} of {len(cells)} cells say the same, {near} part at a near tie",
        )
    if cells:
        return "match", f"{len(cells)} of {len(cells)} cells say the same"
    spoken = [output for output in outputs if output.cached_error is not None]
    if spoken:
        return "match", f"token by token is all at once at {len(spoken)} of {len(outputs)} prompts"
    return "inconclusive", "no side said anything that could be judged"


def _facts(side: Side, facts: Facts | None) -> ParitySide:
    entries = side.container.tensors.values()
    return ParitySide(
        operand=side.operand,
        path=str(side.path),
        container=side.container.kind,
        runtime=side.runtime,
        version="" if facts is None else facts.version,
        options={} if facts is None else {key: str(value) for key, value in facts.options.items()},
        architecture=side.container.architecture or "",
        parameters=sum(math.prod(entry.dims) for entry in entries),
        dtypes=dict(Counter(entry.dtype for entry in entries).most_common()),
        file_bytes=side.container.file_bytes,
        header_sha256=header_sha256(side.container),
        tokenizer_of=(side.lent or side.operand) if side.tokenizer is not None else None,
    )
