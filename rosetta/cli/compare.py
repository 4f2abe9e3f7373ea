"""`rosetta LEFT RIGHT`: compare two models stage by stage. Parses, calls, prints; decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rosetta.cli.github import Github
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
    RunAs,
    RuntimeOptions,
    Tokens,
    given_options,
    given_runtime_options,
    refuse_unreadable,
)
from rosetta.cli.outputs import Targets, deliver_report, takes_stdout, with_outputs
from rosetta.cli.run_facts import run_facts, started_now
from rosetta.cli.terminal import Terminal, show, width
from rosetta.compare.options import DEFAULT_THRESHOLD, Options
from rosetta.digests import Digests
from rosetta.errors import UsageError
from rosetta.report.exit_code import assertion, failures
from rosetta.report.view import View, layer_ranges

if TYPE_CHECKING:
    from rosetta.compare.listener import Listener
    from rosetta.report.report import Report


class Detail(StrEnum):
    """How much of the stages a report says."""

    summary = "summary"
    stages = "stages"
    tokens = "tokens"


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
    strict: Annotated[bool, typer.Option("--strict", help="All that --fail-on may name.")] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on", metavar="WHAT,…", help="With --assert-match: what else exits 1, of latent and drift."
        ),
    ] = None,
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
    witness: Annotated[
        str | None,
        typer.Option(
            metavar="OPERAND", help="A third side, which says with whom it agrees at each stage at fault."
        ),
    ] = None,
    runtime_option: RuntimeOptions = None,
    run_as: RunAs = None,
    verbose: Annotated[
        int,
        typer.Option(
            "-v", count=True, help="Every stage (-v), and its worst values (-vv).", show_default=False
        ),
    ] = 0,
    quiet: Annotated[bool, typer.Option("-q", help="Only the verdict.")] = False,
    layers: Annotated[str | None, typer.Option(metavar="0-4,…", help="Layers that -v shows.")] = None,
    stage: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Stages that -v shows: k, '*_rope', 'layers.3.*'.")
    ] = None,
    detail: Annotated[
        Detail, typer.Option(help="What the report says of stages: nothing, each, each token of each.")
    ] = Detail.stages,
    hashed: Annotated[
        bool,
        typer.Option(
            "--hash", help="SHA-256 of both operands whole, and of tensors that the comparison does not read."
        ),
    ] = False,
    github: Github = None,
    targets: Targets,
) -> None:
    """Compare two models stage by stage; where they differ, find out why and prove it.

    \b
    Examples:
      rosetta model.apr model.gguf
      rosetta compare model.apr model.gguf --prompt "2+2=" --assert-match
      rosetta model.gguf llamacpp:model.gguf --runtime-option kv=f16
      rosetta model.apr model.gguf --witness hf-folder
      rosetta hf-folder model.gguf --tokens 17,10,17,28 -v --json report.json
    """
    if quiet and verbose:
        raise UsageError("-q and -v exclude each other")
    if (layers is not None or stage is not None) and not verbose:
        raise UsageError("--layers and --stage choose what -v shows", remedy="add -v")
    if (strict or fail_on is not None) and not assert_match:
        name = "--strict" if strict else "--fail-on"
        raise UsageError(f"{name} asserts nothing by itself", remedy="add --assert-match")
    failing, started = failures(fail_on, strict=strict), started_now()
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
        run_as=run_as,
        witness=witness,
    )
    view = View(-1 if quiet else verbose, layers=layer_ranges(layers), stage=stage)
    asked = Asked(options, detail.value, started, hashed, kept=bool(targets))
    with Terminal(quiet=quiet, each=verbose > 0, shows_layer=view.shows_layer) as listener:
        report = _report(left, right, asked, listener)
    limit = options.threshold_is_explicit
    result = assertion(report, assert_match=assert_match, fail_on=failing, threshold_is_explicit=limit)
    report = report.model_copy(update={"assertion": result})
    from rosetta.report.text import render

    to_stderr = takes_stdout(targets)
    show(render(report, replace(view, width=width(to_stderr=to_stderr))), to_stderr=to_stderr)
    deliver_report(targets, report, github)
    raise typer.Exit(result.exit_code)


@dataclass(frozen=True)
class Asked:
    """What is asked of the comparison and of its report.

    Args:
        options: how to compare.
        detail: how much of the stages the report says.
        started: when the program began.
        hashed: whether the report has the SHA-256 of the operands and of their tensors.
        kept: whether the report is written anywhere: the screen shows no SHA-256, and those of large files take a
            tenth of the time.
    """

    options: Options
    detail: Literal["summary", "stages", "tokens"] = "stages"
    started: str = ""
    hashed: bool = False
    kept: bool = True


def _report(left: str, right: str, asked: Asked, listener: Listener) -> Report:
    refuse_unreadable(left, right, *([] if asked.options.witness is None else [asked.options.witness]))
    from rosetta.diagnose import compare_operands  # imports torch: not before there is something to compute
    from rosetta.report.build import build_report

    digests = Digests() if asked.kept else None
    comparison = compare_operands(left, right, asked.options, listener, digests)
    run = run_facts(asked.started)
    return build_report(
        comparison, asked.detail, run, hashed=asked.hashed, of_read=asked.kept, digests=digests
    )
