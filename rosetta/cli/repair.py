"""`rosetta repair LEFT RIGHT -o FIXED`: write the wrong file anew, right. Parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rosetta.cli.options import (
    Believed,
    Device,
    InPrecision,
    Left,
    OnDevice,
    Precision,
    Prompt,
    PromptFile,
    Reference,
    Right,
    Tokens,
    given_options,
    refuse_unreadable,
)
from rosetta.cli.terminal import STDOUT, Terminal, show
from rosetta.compare.options import DEFAULT_THRESHOLD
from rosetta.errors import UsageError
from rosetta.report.exit_code import FAILED, PASSED, exit_code


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("repair", short_help="Write a repaired copy of the wrong file, and compare it.")(repair)


def repair(
    left: Left,
    right: Right,
    *,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="FIXED", help="What to write; must not exist. A folder for a folder."
        ),
    ],
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    tokens: Tokens = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="X", help=f"As for a comparison; given, a hard limit.  [default: {DEFAULT_THRESHOLD}]"
        ),
    ] = None,
    reference: Believed = Reference.right,
    device: OnDevice = Device.cpu,
    dtype: InPrecision = Precision.float32,
    allow_copy: Annotated[
        bool,
        typer.Option("--allow-copy", help="Even if more than a tenth of it comes from the other file."),
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", help="Only the last verdict.")] = False,
) -> None:
    """Write a copy of the wrong file with every confirmed repair in it, and
    compare the copy with the other file.

    The wrong file is the one that the findings accuse. Neither input is
    touched, and nothing that exists is overwritten. Bytes that no repair
    concerns are copied as they are; nothing is quantised again. What the file
    no longer holds is taken from the other one, and said; where that is more
    than a tenth of it, the two are hardly one model, and it is refused.

    Exits 0 when the written file matches (or drifts as its dtypes explain) and
    nothing is left to repair, 1 when it does not. With nothing to repair no
    file is written, and it exits 0 when the two match already; where the file
    has no place for the repair none is written either, and it exits 1.

    \b
    Examples:
      rosetta repair wrong.apr model.gguf -o fixed.apr
      rosetta repair wrong-hf model.gguf -o fixed-hf --prompt "Once upon a time"
    """
    if output == STDOUT:
        raise UsageError("a repaired file cannot go to stdout", remedy="name a file with -o")
    options = given_options(
        prompt=prompt,
        prompt_file=prompt_file,
        tokens=tokens,
        threshold=threshold,
        reference=reference,
        devices=(device, device),
        dtype=dtype,
    )
    refuse_unreadable(left, right)
    from rosetta.repair import repair_operands  # imports torch: not before there is something to compute
    from rosetta.repair.text import render
    from rosetta.report.build import build_report
    from rosetta.report.summary import verdict_line

    with Terminal(quiet=quiet) as listener:
        done = repair_operands(left, right, Path(output), options, listener, allow_copy=allow_copy)
    before, after = build_report(done.before), build_report(done.after or done.before)
    verdicts = verdict_line(before), verdict_line(after)
    show(f"{verdicts[1]}\n" if quiet else render(done, output, verdicts))
    code = exit_code(after, assert_match=True, threshold_is_explicit=options.threshold_is_explicit)
    undone = done.left_over or (done.written is not None and done.written.unsaid)
    raise typer.Exit(FAILED if code == PASSED and undone else code)
