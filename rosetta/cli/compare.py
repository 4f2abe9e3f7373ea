"""`rosetta LEFT RIGHT`: compare two models stage by stage. Parses, calls, prints; decides nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

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
    RuntimeOptions,
    Tokens,
    given_options,
    given_runtime_options,
    refuse_unreadable,
)
from rosetta.cli.outputs import Targets, takes_stdout, with_outputs
from rosetta.cli.terminal import Terminal, deliver, show
from rosetta.compare.options import DEFAULT_THRESHOLD, Options
from rosetta.errors import UsageError
from rosetta.report.exit_code import exit_code

if TYPE_CHECKING:
    from rosetta.compare.listener import Listener
    from rosetta.report.report import Report


def command(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("compare", short_help="Compare two models (the default command).")(with_outputs(compare))


def compare(
    left: Left,
    right: Right,
    *,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    tokens: Tokens = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Largest difference of a stage, times max(1, its rms). Given, it is a hard limit.  "
            f"[default: {DEFAULT_THRESHOLD}]",
        ),
    ] = None,
    assert_match: Annotated[
        bool, typer.Option("--assert-match", help="Exit 1 when they diverge, 3 when nothing was compared.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="With --assert-match: drift and latent findings fail too.")
    ] = False,
    reference: Believed = Reference.right,
    stop_at_first: Annotated[
        bool, typer.Option("--stop-at-first", help="Stop at the first divergent stage, once diagnosed.")
    ] = False,
    no_diagnose: Annotated[bool, typer.Option("--no-diagnose", help="Only compare.")] = False,
    device: OnDevice = Device.cpu,
    left_device: Annotated[
        Device | None, typer.Option(help="Where to compute the left side.  [default: --device]")
    ] = None,
    right_device: Annotated[
        Device | None, typer.Option(help="Where to compute the right side.  [default: --device]")
    ] = None,
    dtype: InPrecision = Precision.float32,
    runtime_option: RuntimeOptions = None,
    verbose: Annotated[
        int,
        typer.Option(
            "-v", count=True, help="Every stage (-v), and its worst values (-vv).", show_default=False
        ),
    ] = 0,
    quiet: Annotated[bool, typer.Option("-q", help="Only the verdict.")] = False,
    targets: Targets,
) -> None:
    """Compare two models stage by stage; where they differ, find out why and prove it.

    \b
    Examples:
      rosetta model.apr model.gguf
      rosetta compare model.apr model.gguf --prompt "2+2=" --assert-match
      rosetta model.gguf llamacpp:model.gguf --runtime-option kv=f16
      rosetta hf-folder model.gguf --tokens 17,10,17,28 -v --json report.json
    """
    if quiet and verbose:
        raise UsageError("-q and -v exclude each other")
    if strict and not assert_match:
        raise UsageError("--strict asserts nothing by itself", remedy="add --assert-match")
    options = given_options(
        prompt=prompt,
        prompt_file=prompt_file,
        tokens=tokens,
        threshold=threshold,
        reference=reference,
        devices=(left_device or device, right_device or device),
        dtype=dtype,
    )
    options = replace(
        options,
        stop_at_first=stop_at_first,
        diagnose=not no_diagnose,
        runtime_options=given_runtime_options(runtime_option),
    )
    with Terminal(quiet=quiet, each=verbose > 0) as listener:
        report = _report(left, right, options, listener)
    from rosetta.report.text import render

    show(render(report, -1 if quiet else verbose), to_stderr=takes_stdout(targets))
    for output, target in targets.items():
        deliver(output.render(report), target)
    limit = options.threshold_is_explicit
    raise typer.Exit(exit_code(report, assert_match=assert_match, strict=strict, threshold_is_explicit=limit))


def _report(left: str, right: str, options: Options, listener: Listener) -> Report:
    refuse_unreadable(left, right)
    from rosetta.diagnose import compare_operands  # imports torch: not before there is something to compute
    from rosetta.report.build import build_report

    return build_report(compare_operands(left, right, options, listener))
